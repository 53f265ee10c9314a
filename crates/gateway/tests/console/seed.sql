-- 100,000 charges of the last 60 days, of three accounts, six access tokens and nine models, with what settling them would have kept:
-- daily sums, counters, balances. Some are of the last hours, some are no provider's figure.
do $$
begin
  perform turnpike.create_account('acme research');
  perform turnpike.top_up('acme research', 2000, 'invoice 17');
  perform turnpike.create_account('northwind');
  perform turnpike.top_up('northwind', 500, 'invoice 18');
  perform turnpike.create_account('<img src=x onerror="window.stolen=1">');
  perform turnpike.top_up('<img src=x onerror="window.stolen=1">', 300, 'x');
  perform turnpike.issue_token(account => 'acme research', label => 'search', budget_usd => 900);
  perform turnpike.issue_token(account => 'acme research', label => 'support desk', budget_usd => 400, budget_month_usd => 250);
  perform turnpike.issue_token(account => 'acme research', label => 'nightly evals');
  perform turnpike.issue_token(account => 'northwind', label => 'web', budget_usd => 150, expires => now() + interval '9 days');
  perform turnpike.issue_token(account => 'northwind', label => 'batch');
  perform turnpike.issue_token(account => '<img src=x onerror="window.stolen=1">', label => '<script>window.stolen=1</script>', expires => now() + interval '20 days');
  perform turnpike.set_price(model => 'seeded*', input => 1, output => 2, valid_from => now() - interval '70 days');
end $$;

with price as (select id from turnpike.price where pattern = 'seeded*' limit 1),
instance as (insert into turnpike.instance (id, pid, name, version, stopped_at) overriding system value values (1000000, 1, 'seed', '0', now()) returning id),
tokens as (select id, account_id from turnpike.access_token order by id desc limit 6),
numbered as (select id, account_id, (row_number() over (order by id))::integer as place from tokens),
models as (select * from unnest(array['gpt-5.2', 'gpt-5.2-mini', 'claude-opus-5', 'gpt-4o', 'claude-haiku-5', 'text-embedding-3-large', 'o5-deep-research',
  'whisper-2', '<script>window.stolen=1</script>'], array[40000, 6000, 90000, 25000, 8000, 900, 200000, 3000, 15000]) with ordinality as m (model, cost, place)),
evenly as (
  select n, (hashint8(n) & 65535) % 100 as pick_token, (hashint8(n + 1000000) & 65535) % 100 as pick_model,
         -- The last 3,000 within 20 hours.
         date_trunc('milliseconds', case when n <= 3000 then now() - interval '20 hours' * (n / 3000.0) - interval '10 seconds'
              else now() - interval '60 days' * power((n - 3000) / 97000.0, 1.3) - interval '1 minute' end) as at
    from generate_series(1::bigint, 100000) as n
), drawn as (
  -- Most of the weekend's stand on the Thursday and Friday before.
  select n, case when n > 3000 and n % 5 < 3 and extract(isodow from at at time zone 'UTC') > 5 then at - interval '2 days' else at end as at,
         width_bucket(pick_token, array[0, 38, 60, 75, 88, 96]) as token,
         width_bucket(pick_model, array[0, 26, 56, 64, 74, 88, 94, 95, 98]) as model
    from evenly
)
insert into turnpike.charge (id, account_id, token_id, price_id, instance_id, amount, held, in_text, cr_text, out_text, started_at, settled_at,
  ended_after_ms, status, stream, mark, ending, endpoint, model_requested, model_answered, prompt, completion)
select (lpad(to_hex((extract(epoch from d.at) * 1000)::bigint), 12, '0') || '7' || substr(md5(d.n::text), 1, 3) || '8' || substr(md5(d.n::text), 4, 15))::uuid,
       t.account_id, t.id, price.id, instance.id, m.cost::bigint * (40 + d.n % 211) + d.n % 997, 1000000000,
       300 + d.n % 900, case when d.n % 3 = 0 then 700 else 0 end, 80 + d.n % 300, d.at, d.at + interval '2 seconds', 2000, 200, d.n % 2 = 0,
       case when d.n % 400 = 0 then 'estimated' when d.n % 3001 = 0 then 'interrupted' when d.n % 2503 = 0 then 'bounded' else 'measured' end,
       case when d.n % 400 = 0 then 'abandoned' else 'complete' end, 'chat/completions', m.model, m.model,
       300 + d.n % 900 + case when d.n % 3 = 0 then 700 else 0 end, 80 + d.n % 300
  from drawn as d join numbered as t on t.place = d.token join models as m on m.place = d.model, price, instance;

insert into turnpike.usage_day (token_id, account_id, exchanges, input_tokens, cached_tokens, output_tokens, amount, estimated, day, model)
select token_id, account_id, count(*), sum(in_text + cr_text), sum(cr_text), sum(out_text), sum(amount),
       coalesce(sum(amount) filter (where mark <> 'measured'), 0), (started_at at time zone 'UTC')::date, coalesce(model_answered, model_requested)
  from turnpike.charge where instance_id = 1000000 group by 1, 2, 9, 10;

update turnpike.account as a set balance = a.balance - c.sum
  from (select account_id, sum(amount) from turnpike.charge where instance_id = 1000000 group by 1) as c where c.account_id = a.id;
update turnpike.access_token_counter as t
   set spent = t.spent + c.sum, prompt = t.prompt + c.prompt, completion = t.completion + c.completion,
       day = (now() at time zone 'UTC')::date, spent_day = c.day_amount, prompt_day = c.day_prompt, completion_day = c.day_completion,
       month = date_trunc('month', now() at time zone 'UTC')::date, spent_month = c.month_amount,
       prompt_month = c.month_prompt, completion_month = c.month_completion
  from (select token_id, sum(amount), sum(prompt) as prompt, sum(completion) as completion,
               coalesce(sum(amount) filter (where today), 0) as day_amount, coalesce(sum(prompt) filter (where today), 0) as day_prompt,
               coalesce(sum(completion) filter (where today), 0) as day_completion,
               coalesce(sum(amount) filter (where month), 0) as month_amount, coalesce(sum(prompt) filter (where month), 0) as month_prompt,
               coalesce(sum(completion) filter (where month), 0) as month_completion
          from (select *, settled_at >= date_trunc('day', now(), 'UTC') as today, settled_at >= date_trunc('month', now(), 'UTC') as month
                  from turnpike.charge where instance_id = 1000000) as x group by 1) as c
 where c.token_id = t.token_id;

-- Whoever shows this has the token "search".
update turnpike.access_token set sha256 = sha256('tp-seed-search'::bytea), budget_month = 220000000000, requests_per_minute = 60,
       concurrent_exchanges = 8, prompt_tokens_day = 9000000 where label = 'search';
analyze turnpike.charge, turnpike.usage_day;
