-- Settling takes the charge out of the lease it was held under, counts tokens and windows, keeps the daily rollup, and knows jobs that
-- repeat their usage. Not safe while a version that holds row by row still runs: stop it first. None was ever released.

alter table turnpike.charge
  add column prompt bigint not null default 0,
  add column completion bigint not null default 0,
  add constraint charge_tokens_not_negative check (least(prompt, completion) >= 0);
comment on column turnpike.charge.prompt is 'Input tokens that count against the access token''s caps: what the provider says, at most what the hold foresaw.';
comment on column turnpike.charge.completion is 'Output tokens, likewise.';

create table turnpike.charge_key (
  exchange_id uuid not null,
  created_at  timestamptz not null default now(),
  key         text not null,
  constraint charge_key_identified primary key (key),
  constraint charge_key_printable check (key ~ '^[^[:cntrl:]]+$' and length(key) <= 300)
);
create index charge_key_by_exchange on turnpike.charge_key (exchange_id);
comment on table turnpike.charge_key is 'What is charged once however often a provider tells its usage: responses read again, batches, resumed streams.';
comment on column turnpike.charge_key.key is 'What is charged: kind, upstream and the provider''s id.';
comment on column turnpike.charge_key.exchange_id is 'The exchange that was charged for it.';
comment on column turnpike.charge_key.created_at is 'When.';

create table turnpike.usage_day (
  token_id      bigint not null,
  account_id    bigint not null,
  exchanges     bigint not null,
  input_tokens  bigint not null,
  cached_tokens bigint not null,
  output_tokens bigint not null,
  amount        bigint not null,
  estimated     bigint not null,
  day           date not null,
  model         text not null,
  constraint usage_day_identified primary key (day, token_id, model),
  constraint usage_day_of_token foreign key (token_id, account_id) references turnpike.access_token (id, account_id)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
create index usage_day_by_account on turnpike.usage_day (account_id, day);
comment on table turnpike.usage_day is 'The daily rollup of charges, kept in the transaction that settles them. It stays when charges are dropped.';
comment on column turnpike.usage_day.day is 'The day the exchanges started, UTC.';
comment on column turnpike.usage_day.token_id is 'The access token.';
comment on column turnpike.usage_day.account_id is 'Who paid.';
comment on column turnpike.usage_day.model is 'The model that answered, else the one asked for.';
comment on column turnpike.usage_day.exchanges is 'Charges.';
comment on column turnpike.usage_day.input_tokens is 'Input tokens, cached ones included.';
comment on column turnpike.usage_day.cached_tokens is 'Input tokens read from a cache.';
comment on column turnpike.usage_day.output_tokens is 'Output tokens, reasoning included.';
comment on column turnpike.usage_day.amount is 'Charged, nano-USD.';
comment on column turnpike.usage_day.estimated is 'Of this, where the figure is not the provider''s own, nano-USD.';

create table turnpike.charge_closed (
  account_id bigint not null,
  token_id   bigint not null,
  exchanges  bigint not null,
  amount     bigint not null,
  prompt     bigint not null,
  completion bigint not null,
  month      date not null,
  constraint charge_closed_identified primary key (month, token_id),
  constraint charge_closed_of_token foreign key (token_id, account_id) references turnpike.access_token (id, account_id)
);
comment on table turnpike.charge_closed is 'Sums of the charges of months that were dropped, so that the books still add up.';
comment on column turnpike.charge_closed.month is 'The month''s first day, UTC.';
comment on column turnpike.charge_closed.account_id is 'Who paid.';
comment on column turnpike.charge_closed.token_id is 'With which access token.';
comment on column turnpike.charge_closed.exchanges is 'Charges.';
comment on column turnpike.charge_closed.amount is 'Charged, nano-USD.';
comment on column turnpike.charge_closed.prompt is 'Input tokens that counted against caps.';
comment on column turnpike.charge_closed.completion is 'Output tokens that counted against caps.';

insert into turnpike.usage_day as d (token_id, account_id, exchanges, input_tokens, cached_tokens, output_tokens, amount, estimated, day, model)
select c.token_id, c.account_id, count(*), sum(c.in_text + c.in_audio + c.in_image + c.cr_text + c.cr_audio + c.cr_image + c.cw_5m + c.cw_1h),
       sum(c.cr_text + c.cr_audio + c.cr_image), sum(c.out_text + c.out_reasoning + c.out_audio + c.out_image), sum(c.amount),
       coalesce(sum(c.amount) filter (where c.mark not in ('measured', 'provider_cost')), 0),
       (c.started_at at time zone 'UTC')::date, coalesce(c.model_answered, c.model_requested)
  from turnpike.charge as c group by c.token_id, c.account_id, 9, 10;

drop function turnpike.settle_exchanges(uuid[], bigint[], bigint[], bigint[], bigint[], bigint[], text[], text[], text[], text[], text[], text[], boolean[], smallint[], integer[], bigint[], bigint[], bigint[], text[], text[], bigint[], integer[], integer[], integer[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint, integer);

create function turnpike.settle_exchanges(
  exchanges uuid[], tokens bigint[], accounts bigint[], amounts bigint[], held bigint[], prices bigint[],
  marks text[], endings text[], endpoints text[], models_requested text[], models_answered text[], service_tiers text[],
  streams boolean[], statuses smallint[], flags integer[], provider_costs bigint[], upstreams bigint[], upstream_keys bigint[],
  response_ids text[], usages text[], started_ms bigint[], head_after_ms integer[], first_byte_after_ms integer[], ended_after_ms integer[],
  in_text bigint[], in_audio bigint[], in_image bigint[], cr_text bigint[], cr_audio bigint[], cr_image bigint[],
  cw_5m bigint[], cw_1h bigint[], out_text bigint[], out_reasoning bigint[], out_audio bigint[], out_image bigint[],
  prompts bigint[], completions bigint[], keys text[], instance bigint, lock_ms integer default 1000
) returns table (outcome text)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  at timestamptz;
  today date;
  this_month date;
begin
  -- Row locks last until the commit is on disk, and every lease of these accounts would wait for that. So this commit does not wait;
  -- the caller sends a tiny synchronous one right behind it, whose flush covers both, and only then calls the charge durable.
  perform set_config('synchronous_commit', 'off', true);
  perform set_config('lock_timeout', settle_exchanges.lock_ms::text, true);

  perform from turnpike.account as x where x.id = any (settle_exchanges.accounts) order by x.id for no key update;
  perform from turnpike.access_token_counter as x where x.token_id = any (settle_exchanges.tokens) order by x.token_id for no key update;
  -- By the clock, and once the locks are held: so that no window goes backwards.
  at := clock_timestamp();
  today := (at at time zone 'UTC')::date;
  this_month := date_trunc('month', today)::date;

  return query
  with job as materialized (
    select * from unnest(
      settle_exchanges.exchanges, settle_exchanges.tokens, settle_exchanges.accounts, settle_exchanges.amounts, settle_exchanges.held,
      settle_exchanges.prices, settle_exchanges.marks, settle_exchanges.endings, settle_exchanges.endpoints,
      settle_exchanges.models_requested, settle_exchanges.models_answered, settle_exchanges.service_tiers, settle_exchanges.streams,
      settle_exchanges.statuses, settle_exchanges.flags, settle_exchanges.provider_costs, settle_exchanges.upstreams,
      settle_exchanges.upstream_keys, settle_exchanges.response_ids, settle_exchanges.usages, settle_exchanges.started_ms,
      settle_exchanges.head_after_ms, settle_exchanges.first_byte_after_ms, settle_exchanges.ended_after_ms,
      settle_exchanges.in_text, settle_exchanges.in_audio, settle_exchanges.in_image, settle_exchanges.cr_text,
      settle_exchanges.cr_audio, settle_exchanges.cr_image, settle_exchanges.cw_5m, settle_exchanges.cw_1h,
      settle_exchanges.out_text, settle_exchanges.out_reasoning, settle_exchanges.out_audio, settle_exchanges.out_image,
      settle_exchanges.prompts, settle_exchanges.completions, settle_exchanges.keys
    ) with ordinality as j (
      id, token_id, account_id, amount, held, price_id, mark, ending, endpoint, model_requested, model_answered, service_tier, stream,
      status, flags, provider_cost, upstream_id, upstream_key_id, response_id, usage_raw, started_ms, head_after_ms,
      first_byte_after_ms, ended_after_ms, in_text, in_audio, in_image, cr_text, cr_audio, cr_image, cw_5m, cw_1h, out_text,
      out_reasoning, out_audio, out_image, prompt, completion, key, place
    )
  ),
  claimed as (
    insert into turnpike.charge_key as k (key, exchange_id)
    select distinct on (j.key) j.key, j.id from job as j where j.key is not null order by j.key, j.place
    on conflict on constraint charge_key_identified do nothing
    returning k.key, k.exchange_id
  ),
  -- Charged before by another exchange: by an earlier group, or by an earlier one of this group.
  duplicate as materialized (
    select j.id from job as j
     where j.key is not null
       and not exists (select from claimed as k where k.key = j.key and k.exchange_id = j.id)
       and not exists (select from turnpike.charge_key as k where k.key = j.key and k.exchange_id = j.id)
  ),
  charged as (
    insert into turnpike.charge as c (
      id, token_id, account_id, amount, held, price_id, mark, ending, endpoint, model_requested, model_answered, service_tier, stream,
      status, flags, provider_cost, upstream_id, upstream_key_id, response_id, usage_raw, started_at, settled_at, head_after_ms,
      first_byte_after_ms, ended_after_ms, in_text, in_audio, in_image, cr_text, cr_audio, cr_image, cw_5m, cw_1h, out_text,
      out_reasoning, out_audio, out_image, prompt, completion, instance_id
    )
    select
      j.id, j.token_id, j.account_id, j.amount, j.held, j.price_id, j.mark, j.ending, j.endpoint, j.model_requested, j.model_answered,
      j.service_tier, j.stream, j.status, j.flags, j.provider_cost, j.upstream_id, j.upstream_key_id, j.response_id, j.usage_raw::jsonb,
      to_timestamp(j.started_ms * 0.001),
      -- Not before the day its token counts already, should the clock have been set back.
      greatest(at, case when isfinite(w.day) then w.day::timestamp at time zone 'UTC' end),
      j.head_after_ms, j.first_byte_after_ms, j.ended_after_ms, j.in_text, j.in_audio, j.in_image,
      j.cr_text, j.cr_audio, j.cr_image, j.cw_5m, j.cw_1h, j.out_text, j.out_reasoning, j.out_audio, j.out_image,
      j.prompt, j.completion, settle_exchanges.instance
    from job as j left join turnpike.access_token_counter as w on w.token_id = j.token_id
    where j.id not in (select d.id from duplicate as d) order by j.id
    on conflict (id) do nothing
    returning c.id, c.token_id, c.account_id, c.amount, c.prompt, c.completion, c.mark, c.started_at, coalesce(c.model_answered, c.model_requested) as model,
      c.in_text + c.in_audio + c.in_image + c.cr_text + c.cr_audio + c.cr_image + c.cw_5m + c.cw_1h as input_tokens,
      c.cr_text + c.cr_audio + c.cr_image as cached_tokens, c.out_text + c.out_reasoning + c.out_audio + c.out_image as output_tokens
  ),
  freed as (
    delete from turnpike.hold as h where h.exchange_id = any (settle_exchanges.exchanges)
  ),
  moved as materialized (
    select c.token_id, c.account_id, sum(c.amount)::bigint as amount, sum(c.prompt)::bigint as prompt, sum(c.completion)::bigint as completion
      from charged as c group by c.token_id, c.account_id
  ),
  -- What the lease had for it. It has it all, unless its process was taken for dead.
  drawn as materialized (
    select l.token_id, l.account_id, least(l.money, m.amount) as money, least(l.prompt, m.prompt) as prompt, least(l.completion, m.completion) as completion
      from moved as m join turnpike.lease as l on l.instance_id = settle_exchanges.instance and l.token_id = m.token_id
  ),
  leases as (
    update turnpike.lease as l set money = l.money - d.money, prompt = l.prompt - d.prompt, completion = l.completion - d.completion
      from drawn as d where l.instance_id = settle_exchanges.instance and l.token_id = d.token_id
  ),
  accounts as (
    update turnpike.account as x set balance = x.balance - s.amount, leased = x.leased - s.money
      from (select m.account_id, sum(m.amount)::bigint as amount, coalesce(sum(d.money), 0)::bigint as money
              from moved as m left join drawn as d on d.token_id = m.token_id group by m.account_id) as s
     where x.id = s.account_id
  ),
  counters as (
    update turnpike.access_token_counter as x
       set spent = x.spent + m.amount, prompt = x.prompt + m.prompt, completion = x.completion + m.completion,
           leased = x.leased - coalesce(d.money, 0), leased_prompt = x.leased_prompt - coalesce(d.prompt, 0), leased_completion = x.leased_completion - coalesce(d.completion, 0),
           spent_day = m.amount + case when x.day >= today then x.spent_day else 0 end,
           prompt_day = m.prompt + case when x.day >= today then x.prompt_day else 0 end,
           completion_day = m.completion + case when x.day >= today then x.completion_day else 0 end,
           day = greatest(x.day, today),
           spent_month = m.amount + case when x.month >= this_month then x.spent_month else 0 end,
           prompt_month = m.prompt + case when x.month >= this_month then x.prompt_month else 0 end,
           completion_month = m.completion + case when x.month >= this_month then x.completion_month else 0 end,
           month = greatest(x.month, this_month)
      from moved as m left join drawn as d on d.token_id = m.token_id
     where x.token_id = m.token_id
  ),
  days as (
    insert into turnpike.usage_day as u (token_id, account_id, exchanges, input_tokens, cached_tokens, output_tokens, amount, estimated, day, model)
    select c.token_id, c.account_id, count(*), sum(c.input_tokens), sum(c.cached_tokens), sum(c.output_tokens), sum(c.amount),
           coalesce(sum(c.amount) filter (where c.mark not in ('measured', 'provider_cost')), 0),
           (c.started_at at time zone 'UTC')::date, c.model
      from charged as c group by c.token_id, c.account_id, 9, c.model
    on conflict on constraint usage_day_identified do update
      set exchanges = u.exchanges + excluded.exchanges, input_tokens = u.input_tokens + excluded.input_tokens,
          cached_tokens = u.cached_tokens + excluded.cached_tokens, output_tokens = u.output_tokens + excluded.output_tokens,
          amount = u.amount + excluded.amount, estimated = u.estimated + excluded.estimated
  )
  select case when c.id is not null then 'settled' when d.id is not null then 'duplicate' when o.mark = 'interrupted' and o.amount <> j.amount then 'interrupted' else 'repeated' end
    from job as j left join charged as c on c.id = j.id left join duplicate as d on d.id = j.id
    left join turnpike.charge as o on o.id = j.id
   order by j.place;
end $$;

comment on function turnpike.settle_exchanges is
  'Charges many exchanges. Durable once a synchronous commit has followed. Everything moves for rows really inserted, so repeating it changes nothing. One row back for each, in the order given: settled, repeated (it was charged before), interrupted (it was charged before by whoever took its process for dead, another amount), duplicate (its key was charged before, by another exchange: nothing moved).';

-- The dead. Marked first and apart, so that a process that was only silent is refused its next heartbeat and lease before anything of it is given away.
create function turnpike.find_dead(caller bigint) returns table (instance bigint)
language plpgsql as $$
#variable_conflict use_column
begin
  if not exists (select from turnpike.instance as i where i.id = find_dead.caller and i.buried_at is null) then
    return;
  end if;
  update turnpike.instance as i set buried_at = now()
   where i.buried_at is null and i.id <> find_dead.caller
     -- While Postgres itself was away nobody could give a sign of life.
     and (i.stopped_at is not null
          or greatest(i.seen_at, pg_postmaster_start_time()) < now() - make_interval(secs => i.lease_seconds))
     and (exists (select from turnpike.lease as l where l.instance_id = i.id) or exists (select from turnpike.hold as h where h.instance_id = i.id)
          or i.stopped_at is null);
  return query
  select i.id from turnpike.instance as i
   where i.buried_at is not null
     and (exists (select from turnpike.lease as l where l.instance_id = i.id) or exists (select from turnpike.hold as h where h.instance_id = i.id));
end $$;

comment on function turnpike.find_dead(bigint) is 'Asked by a process that lives and has heard of Postgres all the time: processes that are gone and have left leases or holds. Their exchanges are to be settled first, then bury_instance() gives the leases back.';

create function turnpike.bury_instance(instance bigint, lock_ms integer default 1000) returns bigint
language plpgsql as $$
#variable_conflict use_column
declare
  gone bigint;
begin
  perform set_config('lock_timeout', bury_instance.lock_ms::text, true);
  update turnpike.instance as i set buried_at = coalesce(i.buried_at, now()) where i.id = bury_instance.instance;
  perform from turnpike.account as x
    where x.id in (select l.account_id from turnpike.lease as l where l.instance_id = bury_instance.instance) order by x.id for no key update;
  perform from turnpike.access_token_counter as x
    where x.token_id in (select l.token_id from turnpike.lease as l where l.instance_id = bury_instance.instance) order by x.token_id for no key update;
  with lapsed as (
    delete from turnpike.lease as l where l.instance_id = bury_instance.instance returning l.token_id, l.account_id, l.money, l.prompt, l.completion
  ),
  accounts as (
    update turnpike.account as x set leased = x.leased - s.money
      from (select l.account_id, sum(l.money)::bigint as money from lapsed as l group by l.account_id) as s where x.id = s.account_id
  ),
  counters as (
    update turnpike.access_token_counter as x
       set leased = x.leased - l.money, leased_prompt = x.leased_prompt - l.prompt, leased_completion = x.leased_completion - l.completion
      from lapsed as l where x.token_id = l.token_id
  )
  select coalesce(sum(l.money), 0) into gone from lapsed as l;
  return gone;
end $$;

comment on function turnpike.bury_instance(bigint, integer) is 'Gives back whatever a dead process still had leased; returns how much money, nano-USD. Its open exchanges must be settled before.';

-- Runs as its owner, since the gateway owns no table and may delete no charge.
create function turnpike.drop_charges(before date) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  this_month constant date := date_trunc('month', now() at time zone 'UTC')::date;
  part record;
  dropped integer := 0;
begin
  if drop_charges.before is null or drop_charges.before > this_month - interval '1 month' then
    raise exception 'charges of this month and the last are kept' using errcode = 'invalid_parameter_value',
      hint = format('At the latest: select turnpike.drop_charges(%L);', (this_month - interval '1 month')::date);
  end if;
  -- Settlements would queue behind whoever waits for the table: rather try again another time.
  perform set_config('lock_timeout', '200ms', true);
  perform pg_advisory_xact_lock(hashtextextended('turnpike.ensure_charge_partitions', 0));
  for part in
    select c.relname, to_date(substr(c.relname, 8), 'YYYY_MM') as month
      from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
     where i.inhparent = 'turnpike.charge'::regclass and c.relname ~ '^charge_\d{4}_\d{2}$'
       and to_date(substr(c.relname, 8), 'YYYY_MM') + interval '1 month' <= drop_charges.before
     order by 2
  loop
    -- Nobody writes there any more; whoever reads is not held up by the sums.
    execute format('lock table turnpike.%I in share row exclusive mode', part.relname);
    execute format(
      'insert into turnpike.charge_closed (account_id, token_id, exchanges, amount, prompt, completion, month)
       select account_id, token_id, count(*), sum(amount), sum(prompt), sum(completion), %L from turnpike.%I group by account_id, token_id',
      part.month, part.relname);
    execute format('delete from turnpike.charge_key as k using turnpike.%I as c where k.exchange_id = c.id', part.relname);
    lock table turnpike.charge in access exclusive mode;
    execute format('drop table turnpike.%I', part.relname);
    dropped := dropped + 1;
  end loop;
  return dropped;
end $$;

comment on function turnpike.drop_charges(date) is
  'Drops the charges of whole months before a date and keeps their sums in charge_closed and usage_day; returns how many months. Gateways call it daily where CHARGES_KEEP_MONTHS is set.';

-- The lease stays: it goes back when its process is buried, or when its purse is idle.
create or replace function turnpike.release_hold(exchange uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  delete from turnpike.hold as h where h.exchange_id = release_hold.exchange;
  return found;
end $$;

comment on function turnpike.release_hold(uuid) is
  'Forgets an open exchange, so that nobody charges it should its gateway be dead (view open_holds). A gateway that does settle it still charges.';
