-- Views follow: what is leased and what is held are told apart, usage comes from the daily rollup, and the audit knows leases, caps,
-- windows, the rollup and dropped months. Safe: views only; columns that were there keep their meaning.

drop view turnpike.balances;
create view turnpike.balances as
select a.name as account,
       turnpike.usd(a.balance) as balance_usd,
       turnpike.usd(h.held) as held_usd,
       turnpike.usd(a.credit_limit) as credit_limit_usd,
       case when a.credit_limit is not null then
         turnpike.usd(least(a.balance::numeric + a.credit_limit - h.held, 9223372036854775807)::bigint)
       end as available_usd,
       (select count(*) from turnpike.access_token as t where t.account_id = a.id and t.revoked_at is null) as tokens,
       turnpike.usd(a.leased) as leased_usd
  from turnpike.account as a,
       lateral (select coalesce(sum(h.amount), 0)::bigint as held from turnpike.hold as h where h.account_id = a.id) as h
 order by a.name;

comment on view turnpike.balances is 'What every account has.';
comment on column turnpike.balances.account is 'The account''s name.';
comment on column turnpike.balances.balance_usd is 'Credits less charges.';
comment on column turnpike.balances.held_usd is 'Set aside for open exchanges, as far as their evidence is written.';
comment on column turnpike.balances.credit_limit_usd is 'How far below zero it may go; null: no limit.';
comment on column turnpike.balances.available_usd is 'What new exchanges may cost; null: no limit.';
comment on column turnpike.balances.tokens is 'Access tokens that are not revoked.';
comment on column turnpike.balances.leased_usd is 'In the purses of running gateways: what is held, and what is ready for the next exchanges.';

create index hold_by_account on turnpike.hold (account_id);

drop view turnpike.usage_daily;
create view turnpike.usage_daily as
select u.day,
       a.name as account,
       t.prefix as token,
       t.label,
       sum(u.exchanges)::bigint as exchanges,
       sum(u.input_tokens)::bigint as input_tokens,
       sum(u.cached_tokens)::bigint as cached_tokens,
       sum(u.output_tokens)::bigint as output_tokens,
       turnpike.usd(sum(u.amount)::bigint) as usd,
       turnpike.usd(sum(u.estimated)::bigint) as estimated_usd
  from turnpike.usage_day as u
  join turnpike.access_token as t on t.id = u.token_id
  join turnpike.account as a on a.id = u.account_id
 group by u.day, a.name, t.id
 order by u.day desc, a.name, t.prefix;

comment on view turnpike.usage_daily is 'What was used, by day (UTC), account and access token.';
comment on column turnpike.usage_daily.day is 'The day the exchanges started, UTC.';
comment on column turnpike.usage_daily.account is 'The account''s name.';
comment on column turnpike.usage_daily.token is 'The access token''s prefix.';
comment on column turnpike.usage_daily.label is 'The access token''s label.';
comment on column turnpike.usage_daily.exchanges is 'Charges.';
comment on column turnpike.usage_daily.input_tokens is 'Input tokens, cached ones included.';
comment on column turnpike.usage_daily.cached_tokens is 'Input tokens read from a cache.';
comment on column turnpike.usage_daily.output_tokens is 'Output tokens, reasoning included.';
comment on column turnpike.usage_daily.usd is 'Charged.';
comment on column turnpike.usage_daily.estimated_usd is 'Of this, charges whose figure is not the provider''s own (view estimates).';

drop view turnpike.usage_by_model;
create view turnpike.usage_by_model as
select u.model,
       date_trunc('month', u.day)::date as month,
       sum(u.exchanges)::bigint as exchanges,
       sum(u.input_tokens)::bigint as input_tokens,
       sum(u.cached_tokens)::bigint as cached_tokens,
       sum(u.output_tokens)::bigint as output_tokens,
       turnpike.usd(sum(u.amount)::bigint) as usd,
       turnpike.usd(sum(u.estimated)::bigint) as estimated_usd
  from turnpike.usage_day as u
 group by 1, 2
 order by 2 desc, sum(u.amount) desc;

comment on view turnpike.usage_by_model is 'What was used, by model and month (UTC).';
comment on column turnpike.usage_by_model.model is 'The model that answered, else the one asked for.';
comment on column turnpike.usage_by_model.month is 'The month''s first day, UTC.';
comment on column turnpike.usage_by_model.exchanges is 'Charges.';
comment on column turnpike.usage_by_model.input_tokens is 'Input tokens, cached ones included.';
comment on column turnpike.usage_by_model.cached_tokens is 'Input tokens read from a cache.';
comment on column turnpike.usage_by_model.output_tokens is 'Output tokens, reasoning included.';
comment on column turnpike.usage_by_model.usd is 'Charged.';
comment on column turnpike.usage_by_model.estimated_usd is 'Of this, charges whose figure is not the provider''s own (view estimates).';

create or replace view turnpike.open_holds as
select h.exchange_id as exchange,
       a.name as account,
       t.prefix as token,
       h.model,
       turnpike.usd(h.amount) as usd,
       h.taken_at,
       now() - h.taken_at as age,
       i.name as instance,
       (i.stopped_at is not null or i.buried_at is not null or i.seen_at < now() - make_interval(secs => i.lease_seconds)) as instance_gone
  from turnpike.hold as h
  join turnpike.account as a on a.id = h.account_id
  join turnpike.access_token as t on t.id = h.token_id
  join turnpike.instance as i on i.id = h.instance_id
 order by h.taken_at;
comment on view turnpike.open_holds is 'Exchanges that are under way, or whose gateway died and that another is about to settle.';
comment on column turnpike.open_holds.instance_gone is 'Whether that process stopped or is silent for longer than its leases last: then another one settles it, as its setting ORPHANS says.';

drop view turnpike.audit;
create view turnpike.audit as
with charged as (
  -- One pass over everything.
  select c.token_id, c.account_id, sum(c.amount) as amount, sum(c.prompt) as prompt, sum(c.completion) as completion,
         sum(c.day_amount) as day_amount, sum(c.day_prompt) as day_prompt, sum(c.day_completion) as day_completion,
         sum(c.month_amount) as month_amount, sum(c.month_prompt) as month_prompt, sum(c.month_completion) as month_completion
    from (
      select h.token_id, h.account_id, sum(h.amount) as amount, sum(h.prompt) as prompt, sum(h.completion) as completion,
             sum(h.amount) filter (where w.in_day) as day_amount, sum(h.prompt) filter (where w.in_day) as day_prompt,
             sum(h.completion) filter (where w.in_day) as day_completion, sum(h.amount) filter (where w.in_month) as month_amount,
             sum(h.prompt) filter (where w.in_month) as month_prompt, sum(h.completion) filter (where w.in_month) as month_completion
        from turnpike.charge as h join turnpike.access_token_counter as k on k.token_id = h.token_id,
             lateral (select isfinite(k.day) and h.settled_at >= k.day::timestamp at time zone 'UTC' as in_day,
                             isfinite(k.month) and h.settled_at >= k.month::timestamp at time zone 'UTC' as in_month) as w
       group by h.token_id, h.account_id
      union all
      select token_id, account_id, amount, prompt, completion, null, null, null, null, null, null from turnpike.charge_closed
    ) as c
   group by c.token_id, c.account_id
),
leased as (
  select token_id, account_id, sum(money) as money, sum(prompt) as prompt, sum(completion) as completion from turnpike.lease group by token_id, account_id
),
figure as (
  select t.prefix, c.*, coalesce(ch.amount, 0) as amount_sum, coalesce(ch.prompt, 0) as prompt_sum, coalesce(ch.completion, 0) as completion_sum,
         coalesce(l.money, 0) as money_sum, coalesce(l.prompt, 0) as leased_prompt_sum, coalesce(l.completion, 0) as leased_completion_sum,
         coalesce(ch.day_amount, 0) as day_amount, coalesce(ch.day_prompt, 0) as day_prompt, coalesce(ch.day_completion, 0) as day_completion,
         coalesce(ch.month_amount, 0) as month_amount, coalesce(ch.month_prompt, 0) as month_prompt, coalesce(ch.month_completion, 0) as month_completion
    from turnpike.access_token as t
    left join turnpike.access_token_counter as c on c.token_id = t.id
    left join charged as ch on ch.token_id = t.id
    left join leased as l on l.token_id = t.id
)
select 'balance = credits - charges' as rule, 'account ' || a.name as subject, coalesce(cr.sum, 0) - coalesce(ch.sum, 0) as expected, a.balance::numeric as found
  from turnpike.account as a
  left join (select account_id, sum(amount) as sum from turnpike.credit group by account_id) as cr on cr.account_id = a.id
  left join (select account_id, sum(amount) as sum from charged group by account_id) as ch on ch.account_id = a.id
 where a.balance <> coalesce(cr.sum, 0) - coalesce(ch.sum, 0)
union all
select 'leased = sum of leases', 'account ' || a.name, coalesce(l.sum, 0), a.leased
  from turnpike.account as a
  left join (select account_id, sum(money) as sum from leased group by account_id) as l on l.account_id = a.id
 where a.leased <> coalesce(l.sum, 0)
union all
select r.rule, 'access token ' || f.prefix, r.expected, r.found
  from figure as f,
       lateral (values
         ('spent = sum of charges', f.amount_sum, f.spent),
         ('prompt tokens = sum over charges', f.prompt_sum, f.prompt),
         ('completion tokens = sum over charges', f.completion_sum, f.completion),
         ('leased = sum of leases', f.money_sum, f.leased),
         ('leased prompt tokens = sum of leases', f.leased_prompt_sum, f.leased_prompt),
         ('leased completion tokens = sum of leases', f.leased_completion_sum, f.leased_completion),
         ('spent in a day = sum of its charges', f.day_amount, f.spent_day),
         ('prompt tokens in a day = sum over its charges', f.day_prompt, f.prompt_day),
         ('completion tokens in a day = sum over its charges', f.day_completion, f.completion_day),
         ('spent in a month = sum of its charges', f.month_amount, f.spent_month),
         ('prompt tokens in a month = sum over its charges', f.month_prompt, f.prompt_month),
         ('completion tokens in a month = sum over its charges', f.month_completion, f.completion_month)
       ) as r (rule, expected, found)
 where r.found is distinct from r.expected
union all
select 'the daily rollup = sum of charges', 'access token ' || t.prefix, ch.amount, coalesce(u.amount, 0)
  from charged as ch join turnpike.access_token as t on t.id = ch.token_id
  left join (select token_id, sum(amount) as amount from turnpike.usage_day group by token_id) as u on u.token_id = ch.token_id
 where ch.amount is distinct from coalesce(u.amount, 0)
union all
-- The evidence is written beside the settlement, so it may outlive it for moments.
select 'a charged exchange has no hold', 'exchange ' || h.exchange_id, 0, h.amount
  from turnpike.hold as h
 where exists (select from turnpike.charge as c where c.id = h.exchange_id and c.settled_at < now() - interval '1 minute')
union all
select 'no exchange without an end', 'exchange ' || h.exchange_id, 0, h.amount
  from turnpike.hold as h join turnpike.instance as i on i.id = h.instance_id
 where greatest(coalesce(i.stopped_at, i.seen_at), pg_postmaster_start_time()) < now() - make_interval(secs => i.lease_seconds) - interval '5 minutes'
union all
select 'no lease of the dead', 'process ' || l.instance_id || ', access token ' || l.token_id, 0, l.money
  from turnpike.lease as l join turnpike.instance as i on i.id = l.instance_id
 where greatest(coalesce(i.stopped_at, i.seen_at), pg_postmaster_start_time()) < now() - make_interval(secs => i.lease_seconds) - interval '5 minutes'
union all
select 'a key is charged by an exchange', 'key ' || k.key, 1, 0
  from turnpike.charge_key as k where not exists (select from turnpike.charge as c where c.id = k.exchange_id)
union all
select 'a charge is priced by the version in force when it started', 'exchange ' || c.id, 0, c.amount
  from turnpike.charge as c join turnpike.price as p on p.id = c.price_id
 where c.started_at < p.valid_from - interval '1 minute' or c.started_at >= p.valid_to + interval '1 minute';

comment on view turnpike.audit is 'The books, checked from the ground up in one snapshot. Must be empty, at any moment.';
comment on column turnpike.audit.rule is 'What should hold.';
comment on column turnpike.audit.subject is 'For whom it does not.';
comment on column turnpike.audit.expected is 'What it should be: nano-USD, or tokens.';
comment on column turnpike.audit.found is 'What it is.';
