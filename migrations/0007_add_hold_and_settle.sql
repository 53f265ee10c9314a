-- The hot path: two functions, each for many exchanges in one statement, one transaction. Both lock accounts, then token
-- counters, each in id order, before anything else: with several gateways this is what rules deadlocks out. They are plpgsql
-- so that what follows the locks sees what was committed while they waited, and so that plans are kept without a session
-- (pgbouncer). Whoever keeps an account locked (a transaction left open in psql) must not stop everybody: waiting for locks has a
-- limit, given by the caller. A kept plan must not be one for the empty table it was made on, hence no sequential scans. Safe: adds functions.

create function turnpike.take_holds(
  exchanges uuid[], tokens bigint[], accounts bigint[], amounts bigint[], models text[], instance bigint, lock_ms integer default 1000
) returns table (verdict text, available bigint)
language plpgsql set enable_seqscan = off as $$
declare
  account_ids bigint[];
  account_left bigint[];
  token_ids bigint[];
  token_left bigint[];
  verdicts text[];
  availables bigint[];
  a integer;
  t integer;
  want record;
begin
  -- Holds are evidence: losing the last few in a crash of Postgres loses no money, their exchanges end without a charge.
  perform set_config('synchronous_commit', 'off', true);
  perform set_config('lock_timeout', take_holds.lock_ms::text, true);

  perform from turnpike.account as x where x.id = any (take_holds.accounts) order by x.id for no key update;
  perform from turnpike.access_token_counter as x where x.token_id = any (take_holds.tokens) order by x.token_id for no key update;

  select array_agg(x.id),
         array_agg(case when x.credit_limit is not null then least(x.balance::numeric + x.credit_limit - x.held, 9223372036854775807)::bigint end)
    into account_ids, account_left
    from turnpike.account as x where x.id = any (take_holds.accounts);
  select array_agg(x.id), array_agg(x.budget - c.spent - c.held)
    into token_ids, token_left
    from turnpike.access_token as x join turnpike.access_token_counter as c on c.token_id = x.id
   where x.id = any (take_holds.tokens) and x.revoked_at is null and (x.expires_at is null or x.expires_at > now());

  -- Each is decided in the order of arrival; what is left is null where there is no limit.
  for want in
    select w.token, w.account, w.amount,
           w.exchange in (select h.exchange_id from turnpike.hold as h where h.exchange_id = any (take_holds.exchanges)) as repeated
      from unnest(take_holds.exchanges, take_holds.tokens, take_holds.accounts, take_holds.amounts)
           with ordinality as w (exchange, token, account, amount, place)
     order by w.place
  loop
    a := array_position(account_ids, want.account);
    t := array_position(token_ids, want.token);
    if want.repeated then
      verdicts := verdicts || 'repeated'::text;
      availables := availables || null::bigint;
    elsif a is null or t is null then
      verdicts := verdicts || 'gone'::text;
      availables := availables || null::bigint;
    elsif want.amount > account_left[a] and account_left[a] <= coalesce(token_left[t], account_left[a]) then
      verdicts := verdicts || 'account'::text;
      availables := availables || greatest(account_left[a], 0);
    elsif want.amount > token_left[t] then
      verdicts := verdicts || 'token'::text;
      availables := availables || greatest(token_left[t], 0);
    else
      verdicts := verdicts || 'taken'::text;
      availables := availables || null::bigint;
      account_left[a] := account_left[a] - want.amount;
      token_left[t] := token_left[t] - want.amount;
    end if;
  end loop;

  insert into turnpike.hold (exchange_id, token_id, account_id, amount, model, instance_id)
  select w.exchange, w.token, w.account, w.amount, w.model, take_holds.instance
    from unnest(take_holds.exchanges, take_holds.tokens, take_holds.accounts, take_holds.amounts, take_holds.models, verdicts)
         as w (exchange, token, account, amount, model, verdict)
   where w.verdict = 'taken';
  update turnpike.account as x set held = x.held + s.amount
    from (select w.account, sum(w.amount)::bigint as amount
            from unnest(take_holds.accounts, take_holds.amounts, verdicts) as w (account, amount, verdict)
           where w.verdict = 'taken' group by w.account) as s
   where x.id = s.account;
  update turnpike.access_token_counter as x set held = x.held + s.amount
    from (select w.token, sum(w.amount)::bigint as amount
            from unnest(take_holds.tokens, take_holds.amounts, verdicts) as w (token, amount, verdict)
           where w.verdict = 'taken' group by w.token) as s
   where x.token_id = s.token;

  return query select w.verdict, w.available from unnest(verdicts, availables) with ordinality as w (verdict, available, place) order by w.place;
end $$;

comment on function turnpike.take_holds(uuid[], bigint[], bigint[], bigint[], text[], bigint, integer) is
  'Takes holds for many exchanges, each decided in the order given. One row back for each, in that order: taken; repeated (it was taken before: nothing moved); account or token (it does not fit, with what is left); gone (token revoked, expired or unknown).';

create function turnpike.settle_exchanges(
  exchanges uuid[], tokens bigint[], accounts bigint[], amounts bigint[], held bigint[], prices bigint[],
  marks text[], endings text[], endpoints text[], models_requested text[], models_answered text[], service_tiers text[],
  streams boolean[], statuses smallint[], flags integer[], provider_costs bigint[], upstreams bigint[], upstream_keys bigint[],
  response_ids text[], usages text[], started_ms bigint[], head_after_ms integer[], first_byte_after_ms integer[], ended_after_ms integer[],
  in_text bigint[], in_audio bigint[], in_image bigint[], cr_text bigint[], cr_audio bigint[], cr_image bigint[],
  cw_5m bigint[], cw_1h bigint[], out_text bigint[], out_reasoning bigint[], out_audio bigint[], out_image bigint[],
  instance bigint, lock_ms integer default 1000
) returns table (outcome text)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
begin
  -- Row locks last until the commit is on disk, and every hold on these accounts would wait for that. So this commit does not wait;
  -- the caller sends a tiny synchronous one right behind it, whose flush covers both, and only then calls the charge durable.
  perform set_config('synchronous_commit', 'off', true);
  perform set_config('lock_timeout', settle_exchanges.lock_ms::text, true);

  perform from turnpike.account as x where x.id = any (settle_exchanges.accounts) order by x.id for no key update;
  perform from turnpike.access_token_counter as x where x.token_id = any (settle_exchanges.tokens) order by x.token_id for no key update;

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
      settle_exchanges.out_text, settle_exchanges.out_reasoning, settle_exchanges.out_audio, settle_exchanges.out_image
    ) with ordinality as j (
      id, token_id, account_id, amount, held, price_id, mark, ending, endpoint, model_requested, model_answered, service_tier, stream,
      status, flags, provider_cost, upstream_id, upstream_key_id, response_id, usage_raw, started_ms, head_after_ms,
      first_byte_after_ms, ended_after_ms, in_text, in_audio, in_image, cr_text, cr_audio, cr_image, cw_5m, cw_1h, out_text,
      out_reasoning, out_audio, out_image, place
    )
  ),
  charged as (
    insert into turnpike.charge as c (
      id, token_id, account_id, amount, held, price_id, mark, ending, endpoint, model_requested, model_answered, service_tier, stream,
      status, flags, provider_cost, upstream_id, upstream_key_id, response_id, usage_raw, started_at, head_after_ms,
      first_byte_after_ms, ended_after_ms, in_text, in_audio, in_image, cr_text, cr_audio, cr_image, cw_5m, cw_1h, out_text,
      out_reasoning, out_audio, out_image, instance_id
    )
    select
      j.id, j.token_id, j.account_id, j.amount, j.held, j.price_id, j.mark, j.ending, j.endpoint, j.model_requested, j.model_answered,
      j.service_tier, j.stream, j.status, j.flags, j.provider_cost, j.upstream_id, j.upstream_key_id, j.response_id, j.usage_raw::jsonb,
      to_timestamp(j.started_ms * 0.001), j.head_after_ms, j.first_byte_after_ms, j.ended_after_ms, j.in_text, j.in_audio, j.in_image,
      j.cr_text, j.cr_audio, j.cr_image, j.cw_5m, j.cw_1h, j.out_text, j.out_reasoning, j.out_audio, j.out_image,
      settle_exchanges.instance
    from job as j where j.amount is not null order by j.id
    on conflict (id) do nothing
    returning c.id, c.token_id, c.account_id, c.amount
  ),
  freed as (
    delete from turnpike.hold as h where h.exchange_id = any (settle_exchanges.exchanges)
    returning h.exchange_id, h.token_id, h.account_id, h.amount
  ),
  moved as (
    select c.token_id, c.account_id, c.amount as spent, 0::bigint as freed from charged as c
    union all
    select f.token_id, f.account_id, 0::bigint, f.amount from freed as f
  ),
  accounts_moved as (
    update turnpike.account as x set balance = x.balance - s.spent, held = x.held - s.freed
      from (select m.account_id, sum(m.spent)::bigint as spent, sum(m.freed)::bigint as freed from moved as m group by m.account_id) as s
     where x.id = s.account_id
  ),
  tokens_moved as (
    update turnpike.access_token_counter as x set spent = x.spent + s.spent, held = x.held - s.freed
      from (select m.token_id, sum(m.spent)::bigint as spent, sum(m.freed)::bigint as freed from moved as m group by m.token_id) as s
     where x.token_id = s.token_id
  )
  select case when j.amount is not null then case when c.id is null then 'repeated' else 'settled' end
              else case when f.exchange_id is null then 'absent' else 'released' end end
    from job as j left join charged as c on c.id = j.id left join freed as f on f.exchange_id = j.id
   order by j.place;
end $$;

comment on function turnpike.settle_exchanges(uuid[], bigint[], bigint[], bigint[], bigint[], bigint[], text[], text[], text[], text[], text[], text[], boolean[], smallint[], integer[], bigint[], bigint[], bigint[], text[], text[], bigint[], integer[], integer[], integer[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint, integer) is
  'Ends many exchanges: an amount charges, null only gives the hold back. Durable once a synchronous commit has followed. Balances and counters move for rows really inserted and deleted, so repeating it changes nothing. One row back for each, in the order given: settled, repeated (it was charged before), released, absent (there was no hold).';
