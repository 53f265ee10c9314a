-- Charges get numbers, so that whoever copies them elsewhere can go on where he stopped. The id does not serve: it is made when an
-- exchange begins, so one that takes long is charged behind later ones; nor does a sequence's value, taken before a commit that may be
-- overtaken. So settling leaves one row for each group of charges, and one process at a time gives the numbers afterwards: what it gives
-- is committed in the order of the numbers, and who has seen one never finds a smaller one appear. Safe: adds tables and functions;
-- settle_exchanges() keeps its signature, so the older version calls the new body. What it was settling while this ran is found by walking.

create table turnpike.charge_unnumbered (
  id         bigint generated always as identity,
  charge_ids uuid[] not null,
  constraint charge_unnumbered_identified primary key (id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000);
-- Ids do not compress, and trying takes time in the transaction that settles.
alter table turnpike.charge_unnumbered alter column charge_ids set storage external;

comment on table turnpike.charge_unnumbered is 'Charges that have no number yet: a row for each group that was settled together. It goes when they are numbered.';
comment on column turnpike.charge_unnumbered.id is 'In the order in which they came.';
comment on column turnpike.charge_unnumbered.charge_ids is 'The charges.';

create table turnpike.charge_seq (
  seq       bigint not null,
  charge_id uuid not null,
  constraint charge_seq_identified primary key (seq),
  constraint charge_seq_once unique (charge_id) include (seq)
);

comment on table turnpike.charge_seq is 'The numbers of charges, in a stable order: who has seen one never finds a smaller one appear. Read it by view numbered_charges or charges_after().';
comment on column turnpike.charge_seq.seq is 'The number. Never given twice; there may be gaps.';
comment on column turnpike.charge_seq.charge_id is 'The charge. Not a foreign key: months of charges are dropped.';

create table turnpike.charge_sequencer (
  last_seq   bigint not null default 0,
  walk       smallint not null default 2,
  walked     uuid not null default '00000000-0000-0000-0000-000000000000',
  made_at    timestamptz not null default now(),
  only_row   boolean not null default true,
  constraint charge_sequencer_one primary key (only_row),
  constraint charge_sequencer_only check (only_row),
  constraint charge_sequencer_walk_known check (walk between 0 and 2)
) with (fillfactor = 10);
insert into turnpike.charge_sequencer default values;

comment on table turnpike.charge_sequencer is 'One row: how far numbering is. Whoever has it locked gives numbers.';
comment on column turnpike.charge_sequencer.last_seq is 'The last number given.';
comment on column turnpike.charge_sequencer.walk is 'How many walks over charges that are older than numbers are left: one at once, one when nothing can be settling any more as it did before.';
comment on column turnpike.charge_sequencer.walked is 'How far the walk is: the last charge looked at.';
comment on column turnpike.charge_sequencer.made_at is 'When numbers were introduced.';
comment on column turnpike.charge_sequencer.only_row is 'True: there is one row.';

create or replace function turnpike.settle_exchanges(
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
  -- One row for the whole group: numbering it is somebody else's work.
  queued as (
    insert into turnpike.charge_unnumbered (charge_ids) select array_agg(c.id order by c.id) from charged as c having count(*) > 0
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

-- Runs as its owner: nobody else may write numbers.
create function turnpike.number_charges(most integer default 10000) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  state turnpike.charge_sequencer;
  ids uuid[];
  given integer := 0;
begin
  -- Most of the time there is nothing to do.
  if not exists (select from turnpike.charge_unnumbered)
     and exists (select from turnpike.charge_sequencer as s
                  where s.walk = 0 or s.walk = 1 and s.made_at > clock_timestamp() - interval '1 minute') then
    return 0;
  end if;
  -- Numbers that somebody has seen must outlast a crash: so this commit waits for the disk, and with it for the charges'.
  if current_setting('synchronous_commit') = 'off' then
    perform set_config('synchronous_commit', 'on', true);
  end if;
  select s.* into state from turnpike.charge_sequencer as s for update skip locked;
  if not found then
    return 0;
  end if;

  with next as (
    select n.id from (
      select x.id, sum(cardinality(x.charge_ids)) over (order by x.id) - cardinality(x.charge_ids) as before
        from (select u.id, u.charge_ids from turnpike.charge_unnumbered as u order by u.id limit number_charges.most) as x
    ) as n where n.before < number_charges.most
  ),
  taken as (
    delete from turnpike.charge_unnumbered as u using next as n where u.id = n.id returning u.id, u.charge_ids
  )
  select array_agg(e.charge_id order by t.id, e.place) into ids
    from taken as t, unnest(t.charge_ids) with ordinality as e (charge_id, place);

  -- Charges from before there were numbers, oldest first.
  if ids is null and state.walk > 0 and (state.walk = 2 or state.made_at < clock_timestamp() - interval '1 minute') then
    select array_agg(c.id order by c.id) into ids from (
      select c.id from turnpike.charge as c
       where c.id > state.walked and c.id < turnpike.first_id(state.made_at + interval '10 minutes')
       order by c.id limit number_charges.most) as c;
    if ids is null then
      state.walk := state.walk - 1;
      state.walked := '00000000-0000-0000-0000-000000000000';
    else
      state.walked := ids[cardinality(ids)];
    end if;
    given := coalesce(cardinality(ids), 0);
    ids := array(select i.id from unnest(ids) with ordinality as i (id, place)
                  where not exists (select from turnpike.charge_seq as q where q.charge_id = i.id) order by i.place);
  end if;

  insert into turnpike.charge_seq (seq, charge_id)
  select state.last_seq + i.place, i.id from unnest(ids) with ordinality as i (id, place)
  on conflict on constraint charge_seq_once do nothing;
  given := greatest(given, coalesce(cardinality(ids), 0));
  update turnpike.charge_sequencer as s
     set last_seq = state.last_seq + coalesce(cardinality(ids), 0), walk = state.walk, walked = state.walked;
  if cardinality(ids) > 0 then
    -- Once for all of them: NOTIFY serialises commits.
    perform pg_notify('turnpike_charge', (state.last_seq + cardinality(ids))::text);
  end if;
  return given;
end $$;

comment on function turnpike.number_charges(integer) is
  'Gives numbers to charges that have none, so many at most, and tells channel turnpike_charge the last one. Returns how many were looked at; 0: none is left, or another process is at it. Gateways call it every second.';

-- Runs as its owner, since nobody else may delete numbers.
create function turnpike.sweep_charge_seq(most integer default 10000) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  oldest uuid;
  swept integer;
begin
  select c.id into oldest from turnpike.charge as c order by c.id limit 1;
  delete from turnpike.charge_seq as q
   where q.charge_id in (select x.charge_id from turnpike.charge_seq as x where x.charge_id < oldest order by x.charge_id limit sweep_charge_seq.most);
  get diagnostics swept = row_count;
  return swept;
end $$;

comment on function turnpike.sweep_charge_seq(integer) is
  'Forgets the numbers of charges that were dropped with their months, so many at most; returns how many. Numbers are not given again. Gateways call it daily.';

create view turnpike.numbered_charges as
select q.seq as charge_seq, c.id, c.account_id, a.name as account, c.token_id, t.prefix as token, t.label as token_label,
       c.started_at, c.settled_at, c.endpoint, c.model_requested, c.model_answered, c.service_tier, c.stream, c.status, c.mark, c.ending, c.flags,
       c.amount as nano_usd, turnpike.usd(c.amount) as usd, c.held as held_nano_usd, c.provider_cost as provider_cost_nano_usd, c.price_id,
       c.in_text, c.in_audio, c.in_image, c.cr_text, c.cr_audio, c.cr_image, c.cw_5m, c.cw_1h, c.out_text, c.out_reasoning, c.out_audio, c.out_image,
       c.prompt, c.completion, c.head_after_ms, c.first_byte_after_ms, c.ended_after_ms,
       c.upstream_id, u.name as upstream, c.upstream_key_id, c.response_id
  from turnpike.charge_seq as q
  join turnpike.charge as c on c.id = q.charge_id
  join turnpike.account as a on a.id = c.account_id
  join turnpike.access_token as t on t.id = c.token_id
  left join turnpike.upstream as u on u.id = c.upstream_id;

comment on view turnpike.numbered_charges is 'Charges with their numbers, for whoever copies them elsewhere.';
comment on column turnpike.numbered_charges.charge_seq is 'The number: who has seen one never finds a smaller one appear. There may be gaps.';
comment on column turnpike.numbered_charges.id is 'The exchange: the answer''s x-turnpike-exchange. Unique, so it serves to count each charge once.';
comment on column turnpike.numbered_charges.account_id is 'Who paid.';
comment on column turnpike.numbered_charges.account is 'Its name.';
comment on column turnpike.numbered_charges.token_id is 'With which access token.';
comment on column turnpike.numbered_charges.token is 'Its prefix.';
comment on column turnpike.numbered_charges.token_label is 'Its label.';
comment on column turnpike.numbered_charges.started_at is 'When the request''s head came.';
comment on column turnpike.numbered_charges.settled_at is 'When it was settled.';
comment on column turnpike.numbered_charges.endpoint is 'The endpoint by short name.';
comment on column turnpike.numbered_charges.model_requested is 'The model the client named.';
comment on column turnpike.numbered_charges.model_answered is 'The model the answer named.';
comment on column turnpike.numbered_charges.service_tier is 'The tier that served.';
comment on column turnpike.numbered_charges.stream is 'Whether the answer was a stream of events.';
comment on column turnpike.numbered_charges.status is 'The HTTP status the client saw.';
comment on column turnpike.numbered_charges.mark is 'How the figure came about: measured, provider_cost, estimated, bounded, interrupted.';
comment on column turnpike.numbered_charges.ending is 'How the exchange ended: complete, failed, abandoned.';
comment on column turnpike.numbered_charges.flags is 'Anomalies of the provider''s figures: bits of tariff::Flag.';
comment on column turnpike.numbered_charges.nano_usd is 'What was charged, nano-USD.';
comment on column turnpike.numbered_charges.usd is 'The same in USD, exactly.';
comment on column turnpike.numbered_charges.held_nano_usd is 'What had been held for it, nano-USD.';
comment on column turnpike.numbered_charges.provider_cost_nano_usd is 'What the provider says it cost, nano-USD.';
comment on column turnpike.numbered_charges.price_id is 'The price version it was computed from.';
comment on column turnpike.numbered_charges.in_text is 'Input text tokens, neither read from a cache nor written to one. The twelve counts are disjoint.';
comment on column turnpike.numbered_charges.in_audio is 'Input audio tokens.';
comment on column turnpike.numbered_charges.in_image is 'Input image tokens.';
comment on column turnpike.numbered_charges.cr_text is 'Text tokens read from a cache.';
comment on column turnpike.numbered_charges.cr_audio is 'Audio tokens read from a cache.';
comment on column turnpike.numbered_charges.cr_image is 'Image tokens read from a cache.';
comment on column turnpike.numbered_charges.cw_5m is 'Tokens written to a short-lived cache.';
comment on column turnpike.numbered_charges.cw_1h is 'Tokens written to a one-hour cache.';
comment on column turnpike.numbered_charges.out_text is 'Output text tokens.';
comment on column turnpike.numbered_charges.out_reasoning is 'Output tokens spent on reasoning.';
comment on column turnpike.numbered_charges.out_audio is 'Output audio tokens.';
comment on column turnpike.numbered_charges.out_image is 'Output image tokens.';
comment on column turnpike.numbered_charges.prompt is 'Input tokens that count against the access token''s caps.';
comment on column turnpike.numbered_charges.completion is 'Output tokens, likewise.';
comment on column turnpike.numbered_charges.head_after_ms is 'From started_at to the answer''s head, milliseconds.';
comment on column turnpike.numbered_charges.first_byte_after_ms is 'From started_at to the first byte of the answer''s body, milliseconds.';
comment on column turnpike.numbered_charges.ended_after_ms is 'From started_at to the answer''s end, milliseconds.';
comment on column turnpike.numbered_charges.upstream_id is 'Who answered. Null: the sandbox, or the provider that the settings name.';
comment on column turnpike.numbered_charges.upstream is 'Its name.';
comment on column turnpike.numbered_charges.upstream_key_id is 'With which key.';
comment on column turnpike.numbered_charges.response_id is 'The provider''s id of the answer.';

create function turnpike.charges_after(seq bigint, most integer default 1000) returns setof turnpike.numbered_charges
language sql stable as $$
  select n.* from turnpike.numbered_charges as n where n.charge_seq > charges_after.seq order by n.charge_seq
   limit least(greatest(charges_after.most, 0), 10000)
$$;

comment on function turnpike.charges_after(bigint, integer) is
  'The charges behind a number, in order, 10,000 at most. Begin with 0 and go on with the last charge_seq; LISTEN turnpike_charge says when there are more.';

revoke all on function turnpike.number_charges, turnpike.sweep_charge_seq, turnpike.charges_after from public;

create function turnpike.grant_numbers() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from pg_roles where rolname = 'turnpike_gateway') then
    grant insert on turnpike.charge_unnumbered to turnpike_gateway;
    grant execute on function turnpike.number_charges, turnpike.sweep_charge_seq to turnpike_gateway;
  end if;
  if exists (select from pg_roles where rolname = 'turnpike_admin') then
    grant select on turnpike.charge_seq, turnpike.charge_unnumbered, turnpike.charge_sequencer, turnpike.numbered_charges to turnpike_admin;
    grant execute on function turnpike.charges_after, turnpike.number_charges to turnpike_admin;
  end if;
end $$;

comment on function turnpike.grant_numbers() is 'Part of grant_roles(): the numbers of charges.';

alter function turnpike.grant_roles() rename to grant_until_numbers;

create function turnpike.grant_roles() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform turnpike.grant_until_numbers();
  perform turnpike.grant_numbers();
end $$;

comment on function turnpike.grant_roles() is
  'Makes the roles turnpike_gateway and turnpike_admin where allowed and grants them what each needs. Harmless to repeat.';
comment on function turnpike.grant_until_numbers() is 'Part of grant_roles(): everything that is older than numbers.';

revoke all on function turnpike.grant_roles, turnpike.grant_numbers from public;
select turnpike.grant_numbers();
