-- What people look at, in USD. All are plain views over the tables: there is nothing to refresh. Safe: adds views.

create view turnpike.balances as
select a.name as account,
       turnpike.usd(a.balance) as balance_usd,
       turnpike.usd(a.held) as held_usd,
       turnpike.usd(a.credit_limit) as credit_limit_usd,
       case when a.credit_limit is not null then
         turnpike.usd(least(a.balance::numeric + a.credit_limit - a.held, 9223372036854775807)::bigint)
       end as available_usd,
       (select count(*) from turnpike.access_token as t where t.account_id = a.id and t.revoked_at is null) as tokens
  from turnpike.account as a order by a.name;

comment on view turnpike.balances is 'What every account has.';
comment on column turnpike.balances.account is 'The account''s name.';
comment on column turnpike.balances.balance_usd is 'Credits less charges.';
comment on column turnpike.balances.held_usd is 'Set aside for open exchanges.';
comment on column turnpike.balances.credit_limit_usd is 'How far below zero it may go; null: no limit.';
comment on column turnpike.balances.available_usd is 'What new exchanges may cost; null: no limit.';
comment on column turnpike.balances.tokens is 'Access tokens that are not revoked.';

create view turnpike.usage_daily as
select (c.started_at at time zone 'UTC')::date as day,
       a.name as account,
       t.prefix as token,
       t.label,
       count(*) as exchanges,
       sum(c.in_text + c.in_audio + c.in_image + c.cr_text + c.cr_audio + c.cr_image + c.cw_5m + c.cw_1h)::bigint as input_tokens,
       sum(c.cr_text + c.cr_audio + c.cr_image)::bigint as cached_tokens,
       sum(c.out_text + c.out_reasoning + c.out_audio + c.out_image)::bigint as output_tokens,
       turnpike.usd(sum(c.amount)::bigint) as usd,
       turnpike.usd(coalesce(sum(c.amount) filter (where c.mark not in ('measured', 'provider_cost')), 0)::bigint) as estimated_usd
  from turnpike.charge as c
  join turnpike.access_token as t on t.id = c.token_id
  join turnpike.account as a on a.id = c.account_id
 group by 1, a.name, t.id
 order by 1 desc, a.name, t.prefix;

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

create view turnpike.usage_by_model as
select coalesce(c.model_answered, c.model_requested) as model,
       (date_trunc('month', c.started_at at time zone 'UTC'))::date as month,
       count(*) as exchanges,
       sum(c.in_text + c.in_audio + c.in_image + c.cr_text + c.cr_audio + c.cr_image + c.cw_5m + c.cw_1h)::bigint as input_tokens,
       sum(c.cr_text + c.cr_audio + c.cr_image)::bigint as cached_tokens,
       sum(c.out_text + c.out_reasoning + c.out_audio + c.out_image)::bigint as output_tokens,
       turnpike.usd(sum(c.amount)::bigint) as usd,
       turnpike.usd(coalesce(sum(c.amount) filter (where c.mark not in ('measured', 'provider_cost')), 0)::bigint) as estimated_usd
  from turnpike.charge as c
 group by 1, 2
 order by 2 desc, sum(c.amount) desc;

comment on view turnpike.usage_by_model is 'What was used, by model and month (UTC).';
comment on column turnpike.usage_by_model.model is 'The model that answered, else the one asked for.';
comment on column turnpike.usage_by_model.month is 'The month''s first day, UTC.';
comment on column turnpike.usage_by_model.exchanges is 'Charges.';
comment on column turnpike.usage_by_model.input_tokens is 'Input tokens, cached ones included.';
comment on column turnpike.usage_by_model.cached_tokens is 'Input tokens read from a cache.';
comment on column turnpike.usage_by_model.output_tokens is 'Output tokens, reasoning included.';
comment on column turnpike.usage_by_model.usd is 'Charged.';
comment on column turnpike.usage_by_model.estimated_usd is 'Of this, charges whose figure is not the provider''s own (view estimates).';

create view turnpike.open_holds as
select h.exchange_id as exchange,
       a.name as account,
       t.prefix as token,
       h.model,
       turnpike.usd(h.amount) as usd,
       h.taken_at,
       now() - h.taken_at as age,
       i.name as instance,
       (i.stopped_at is not null or i.seen_at < now() - interval '1 minute') as instance_gone
  from turnpike.hold as h
  join turnpike.account as a on a.id = h.account_id
  join turnpike.access_token as t on t.id = h.token_id
  join turnpike.instance as i on i.id = h.instance_id
 order by h.taken_at;

comment on view turnpike.open_holds is 'Exchanges that are under way, or whose gateway died before their end.';
comment on column turnpike.open_holds.exchange is 'The exchange.';
comment on column turnpike.open_holds.account is 'The account''s name.';
comment on column turnpike.open_holds.token is 'The access token''s prefix.';
comment on column turnpike.open_holds.model is 'The model the client named.';
comment on column turnpike.open_holds.usd is 'What is set aside.';
comment on column turnpike.open_holds.taken_at is 'Since when.';
comment on column turnpike.open_holds.age is 'How long.';
comment on column turnpike.open_holds.instance is 'The process that has it.';
comment on column turnpike.open_holds.instance_gone is 'Whether that process stopped or was not seen for a minute: then nobody will settle it.';

create view turnpike.estimates as
select c.id as exchange, c.started_at, a.name as account, t.prefix as token,
       coalesce(c.model_answered, c.model_requested) as model, c.mark, c.ending,
       turnpike.usd(c.amount) as usd, turnpike.usd(c.held) as held_usd, c.usage_raw
  from turnpike.charge as c
  join turnpike.account as a on a.id = c.account_id
  join turnpike.access_token as t on t.id = c.token_id
 where c.mark not in ('measured', 'provider_cost')
 order by c.id desc;

comment on view turnpike.estimates is 'Charges whose figure is not the provider''s own: estimated, bounded, interrupted. Correct one with turnpike.top_up().';
comment on column turnpike.estimates.exchange is 'The exchange.';
comment on column turnpike.estimates.started_at is 'When its request came.';
comment on column turnpike.estimates.account is 'The account''s name.';
comment on column turnpike.estimates.token is 'The access token''s prefix.';
comment on column turnpike.estimates.model is 'The model that answered, else the one asked for.';
comment on column turnpike.estimates.mark is 'How the figure came about.';
comment on column turnpike.estimates.ending is 'How the exchange ended.';
comment on column turnpike.estimates.usd is 'Charged.';
comment on column turnpike.estimates.held_usd is 'What had been held: the most it can have cost.';
comment on column turnpike.estimates.usage_raw is 'What the provider said, if anything.';

create view turnpike.audit as
select 'balance = credits - charges' as rule, 'account ' || a.name as subject, coalesce(cr.sum, 0) - coalesce(ch.sum, 0) as expected, a.balance::numeric as found
  from turnpike.account as a
  left join (select account_id, sum(amount) as sum from turnpike.credit group by account_id) as cr on cr.account_id = a.id
  left join (select account_id, sum(amount) as sum from turnpike.charge group by account_id) as ch on ch.account_id = a.id
 where a.balance <> coalesce(cr.sum, 0) - coalesce(ch.sum, 0)
union all
select 'held = sum of holds', 'account ' || a.name, coalesce(h.sum, 0), a.held
  from turnpike.account as a
  left join (select account_id, sum(amount) as sum from turnpike.hold group by account_id) as h on h.account_id = a.id
 where a.held <> coalesce(h.sum, 0)
union all
select 'spent = sum of charges', 'access token ' || t.prefix, coalesce(ch.sum, 0), c.spent
  from turnpike.access_token as t
  left join turnpike.access_token_counter as c on c.token_id = t.id
  left join (select token_id, sum(amount) as sum from turnpike.charge group by token_id) as ch on ch.token_id = t.id
 where c.spent is distinct from coalesce(ch.sum, 0)
union all
select 'held = sum of holds', 'access token ' || t.prefix, coalesce(h.sum, 0), c.held
  from turnpike.access_token as t
  left join turnpike.access_token_counter as c on c.token_id = t.id
  left join (select token_id, sum(amount) as sum from turnpike.hold group by token_id) as h on h.token_id = t.id
 where c.held is distinct from coalesce(h.sum, 0)
union all
select 'a charged exchange has no hold', 'exchange ' || h.exchange_id, 0, h.amount
  from turnpike.hold as h where exists (select from turnpike.charge as c where c.id = h.exchange_id)
union all
select 'a charge is priced by the version in force when it started', 'exchange ' || c.id, 0, c.amount
  from turnpike.charge as c join turnpike.price as p on p.id = c.price_id
 where c.started_at < p.valid_from - interval '1 minute' or c.started_at >= p.valid_to + interval '1 minute';

comment on view turnpike.audit is 'The books, checked from the ground up in one snapshot. Must be empty, at any moment.';
comment on column turnpike.audit.rule is 'What should hold.';
comment on column turnpike.audit.subject is 'For whom it does not.';
comment on column turnpike.audit.expected is 'What it should be, nano-USD.';
comment on column turnpike.audit.found is 'What it is, nano-USD.';
