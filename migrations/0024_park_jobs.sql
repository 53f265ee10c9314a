-- Work that ends after its request: background responses, batches and their like. What is held for it leaves the purse of the process
-- that took it and is leased to no process: instance 0, which never dies. So spent + leased <= cap goes on being true, a crash
-- neither loses nor pins it, and any process may ask the provider how it stands and settle it. Safe: adds a table, a row and functions.

-- Its time is a date and not infinity, since ages are reckoned from it.
insert into turnpike.instance (id, pid, name, version, started_at, seen_at) overriding system value
values (0, 0, 'parked jobs', '', now(), '9999-12-31Z');

create table turnpike.job (
  exchange_id     uuid not null,
  account_id      bigint not null,
  token_id        bigint not null,
  upstream_id     bigint,
  upstream_key_id bigint,
  held            bigint not null,
  prompt          bigint not null,
  completion      bigint not null,
  created_at      timestamptz not null default now(),
  started_at      timestamptz not null,
  poll_at         timestamptz not null,
  deadline        timestamptz not null,
  claimed_until   timestamptz,
  ended_at        timestamptz,
  claimed_by      bigint,
  attempts        integer not null default 0,
  kind            text not null,
  object_id       text not null,
  endpoint        text not null,
  model           text not null,
  facts           jsonb not null,
  constraint job_identified primary key (exchange_id),
  constraint job_of_token foreign key (token_id, account_id) references turnpike.access_token (id, account_id),
  constraint job_not_negative check (least(held, prompt, completion, attempts) >= 0)
);
create index job_by_time on turnpike.job (poll_at) where ended_at is null;
create index job_by_object on turnpike.job (object_id) where ended_at is null;
create index job_by_end on turnpike.job (ended_at) where ended_at is not null;

comment on table turnpike.job is 'Work that ends after its request, and what is held for it until then. Rows of ended ones stay for some days, so that nobody settles their exchanges once more.';
comment on column turnpike.job.exchange_id is 'The exchange that began it: its charge has this id.';
comment on column turnpike.job.account_id is 'Who pays.';
comment on column turnpike.job.token_id is 'With which access token.';
comment on column turnpike.job.upstream_id is 'Who works on it. Null: the provider that the settings name.';
comment on column turnpike.job.upstream_key_id is 'With which key it was begun.';
comment on column turnpike.job.held is 'The most it may cost, nano-USD: leased to instance 0 until it ends.';
comment on column turnpike.job.prompt is 'The most input tokens it may use, likewise.';
comment on column turnpike.job.completion is 'The most output tokens it may use, likewise.';
comment on column turnpike.job.created_at is 'When it was parked.';
comment on column turnpike.job.started_at is 'When the request''s head came. The prices in force then are its prices.';
comment on column turnpike.job.poll_at is 'When the provider is asked next.';
comment on column turnpike.job.deadline is 'When it is settled by what is known, whatever the provider says.';
comment on column turnpike.job.claimed_until is 'Until when a process works on it; then another may.';
comment on column turnpike.job.claimed_by is 'That process.';
comment on column turnpike.job.ended_at is 'When it was settled or released. Null: it is open.';
comment on column turnpike.job.attempts is 'How often it was claimed.';
comment on column turnpike.job.kind is 'What the provider works on: response, batch, ...';
comment on column turnpike.job.object_id is 'The provider''s id of it.';
comment on column turnpike.job.endpoint is 'The endpoint by short name.';
comment on column turnpike.job.model is 'The model the client named.';
comment on column turnpike.job.facts is 'What its settlement needs beside: counts and words, never contents.';

-- Locks as everything that moves counters does: accounts, then token counters, in id order.
create function turnpike.park_exchange(
  exchange uuid, instance bigint, token bigint, account bigint, held bigint, prompt bigint, completion bigint, kind text, object_id text,
  upstream bigint, upstream_key bigint, endpoint text, model text, started_ms bigint, poll_after_ms bigint, deadline_after_ms bigint, facts text
) returns text
language plpgsql as $$
begin
  perform set_config('lock_timeout', '1000ms', true);
  perform from turnpike.account as x where x.id = park_exchange.account for no key update;
  perform from turnpike.access_token_counter as x where x.token_id = park_exchange.token for no key update;
  if exists (select from turnpike.job as j where j.exchange_id = park_exchange.exchange) then
    return 'parked';
  end if;
  -- Whoever buries a process marks it first, and settles what it finds then: so either he finds this job, or this finds his mark.
  perform from turnpike.instance as i where i.id = park_exchange.instance and i.buried_at is null for share;
  if not found then
    return 'buried';
  end if;
  if exists (select from turnpike.charge as c where c.id = park_exchange.exchange) then
    return 'charged';
  end if;
  update turnpike.lease as l
     set money = l.money - park_exchange.held, prompt = l.prompt - park_exchange.prompt, completion = l.completion - park_exchange.completion
   where l.instance_id = park_exchange.instance and l.token_id = park_exchange.token
     and l.money >= park_exchange.held and l.prompt >= park_exchange.prompt and l.completion >= park_exchange.completion;
  if not found then
    return 'buried';
  end if;
  -- No recall waits for it: what is parked cannot be spared.
  insert into turnpike.lease as l (instance_id, token_id, account_id, money, prompt, completion, answered_at)
  values (0, park_exchange.token, park_exchange.account, park_exchange.held, park_exchange.prompt, park_exchange.completion, '9999-12-31Z')
  on conflict on constraint lease_identified do update
    set money = l.money + excluded.money, prompt = l.prompt + excluded.prompt, completion = l.completion + excluded.completion;
  insert into turnpike.job (exchange_id, account_id, token_id, upstream_id, upstream_key_id, held, prompt, completion, started_at, poll_at, deadline,
                            kind, object_id, endpoint, model, facts)
  values (park_exchange.exchange, park_exchange.account, park_exchange.token, park_exchange.upstream, park_exchange.upstream_key,
          park_exchange.held, park_exchange.prompt, park_exchange.completion, to_timestamp(park_exchange.started_ms * 0.001),
          now() + park_exchange.poll_after_ms * interval '1 millisecond', now() + park_exchange.deadline_after_ms * interval '1 millisecond',
          park_exchange.kind, park_exchange.object_id, park_exchange.endpoint, park_exchange.model, park_exchange.facts::jsonb);
  delete from turnpike.hold as h where h.exchange_id = park_exchange.exchange;
  return 'parked';
end $$;

comment on function turnpike.park_exchange(uuid, bigint, bigint, bigint, bigint, bigint, bigint, text, text, bigint, bigint, text, text, bigint, bigint, bigint, text) is
  'Makes an open exchange a job: what is held for it leaves its process'' lease. parked (also if it was before); buried (the process counts as dead, or its lease is gone); charged (it has ended).';

create function turnpike.claim_jobs(instance bigint, most integer, claimed_seconds integer) returns setof turnpike.job
language sql
begin atomic
  update turnpike.job as j
     set claimed_by = instance, claimed_until = now() + claimed_seconds * interval '1 second', attempts = j.attempts + 1
    from (select d.exchange_id from turnpike.job as d
           where d.ended_at is null and d.poll_at <= now() and (d.claimed_until is null or d.claimed_until <= now())
           order by d.poll_at limit most for update skip locked) as due
   where j.exchange_id = due.exchange_id
  returning j.*;
end;

comment on function turnpike.claim_jobs(bigint, integer, integer) is
  'Jobs whose provider is to be asked now, the longest due first, for one process and so many seconds; what another works on is passed over.';

create function turnpike.lock_job(exchange uuid, lock_ms integer default 1000) returns table (instance bigint)
language plpgsql as $$
declare
  job turnpike.job;
begin
  perform set_config('lock_timeout', lock_job.lock_ms::text, true);
  select j.* into job from turnpike.job as j where j.exchange_id = lock_job.exchange;
  perform from turnpike.account as x where x.id = job.account_id for no key update;
  perform from turnpike.access_token_counter as x where x.token_id = job.token_id for no key update;
  -- Asked again behind the locks: it may have ended while they were waited for.
  return query select 0::bigint from turnpike.job as j where j.exchange_id = lock_job.exchange and j.ended_at is null;
end $$;

comment on function turnpike.lock_job(uuid, integer) is
  'Locks whose means a job holds; one row, with the process that its charges are settled for, if the job is open.';

create function turnpike.end_job(exchange uuid, outcomes text[], amounts bigint[], prompts bigint[], completions bigint[]) returns boolean
language plpgsql as $$
declare
  job turnpike.job;
begin
  -- Settling does not wait for the disk, and this must.
  perform set_config('synchronous_commit', 'on', true);
  update turnpike.job as j set ended_at = clock_timestamp(), claimed_until = null
   where j.exchange_id = end_job.exchange and j.ended_at is null returning j.* into job;
  if not found then
    return false;
  end if;
  with used as (
    select coalesce(sum(s.amount), 0)::bigint as money, coalesce(sum(s.prompt), 0)::bigint as prompt, coalesce(sum(s.completion), 0)::bigint as completion
      from unnest(end_job.outcomes, end_job.amounts, end_job.prompts, end_job.completions) as s (outcome, amount, prompt, completion)
     where s.outcome = 'settled'
  ),
  rest as materialized (
    select greatest(job.held - u.money, 0) as money, greatest(job.prompt - u.prompt, 0) as prompt, greatest(job.completion - u.completion, 0) as completion
      from used as u
  ),
  leases as (
    update turnpike.lease as l set money = l.money - r.money, prompt = l.prompt - r.prompt, completion = l.completion - r.completion
      from rest as r where l.instance_id = 0 and l.token_id = job.token_id
  ),
  accounts as (
    update turnpike.account as x set leased = x.leased - r.money from rest as r where x.id = job.account_id
  )
  update turnpike.access_token_counter as x
     set leased = x.leased - r.money, leased_prompt = x.leased_prompt - r.prompt, leased_completion = x.leased_completion - r.completion
    from rest as r where x.token_id = job.token_id;
  delete from turnpike.lease as l where l.instance_id = 0 and l.token_id = job.token_id and greatest(l.money, l.prompt, l.completion) = 0;
  -- Whoever remembers that the account was short had better ask again.
  perform pg_notify('turnpike', 'account:' || job.account_id);
  return true;
end $$;

comment on function turnpike.end_job(uuid, text[], bigint[], bigint[], bigint[]) is
  'Ends a job that is locked and, where it cost something, settled in the same transaction: what that did not use is free again. False: it had ended.';

create view turnpike.open_jobs as
select j.exchange_id as exchange, a.name as account, t.prefix as token, j.kind, j.object_id as object, j.model, turnpike.usd(j.held) as usd,
       j.created_at, now() - j.created_at as age, j.poll_at, j.deadline, j.attempts, i.name as instance
  from turnpike.job as j
  join turnpike.account as a on a.id = j.account_id
  join turnpike.access_token as t on t.id = j.token_id
  left join turnpike.instance as i on i.id = j.claimed_by and j.claimed_until > now()
 where j.ended_at is null
 order by j.created_at;

comment on view turnpike.open_jobs is 'Work that goes on after its request: background responses, batches and their like.';
comment on column turnpike.open_jobs.exchange is 'The exchange that began it.';
comment on column turnpike.open_jobs.account is 'Who pays.';
comment on column turnpike.open_jobs.token is 'The access token''s prefix.';
comment on column turnpike.open_jobs.kind is 'What the provider works on.';
comment on column turnpike.open_jobs.object is 'The provider''s id of it.';
comment on column turnpike.open_jobs.model is 'The model the client named.';
comment on column turnpike.open_jobs.usd is 'The most it may cost.';
comment on column turnpike.open_jobs.created_at is 'When it was parked.';
comment on column turnpike.open_jobs.age is 'Since when, as a span.';
comment on column turnpike.open_jobs.poll_at is 'When the provider is asked next.';
comment on column turnpike.open_jobs.deadline is 'When it is settled by what is known.';
comment on column turnpike.open_jobs.attempts is 'How often the provider was to be asked.';
comment on column turnpike.open_jobs.instance is 'The process that asks just now.';

create or replace function turnpike.grant_objects() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from pg_roles where rolname = 'turnpike_gateway') then
    grant select, insert, delete on turnpike.object to turnpike_gateway;
    grant select, insert, update, delete on turnpike.job to turnpike_gateway;
    grant execute on function turnpike.keep_objects, turnpike.park_exchange, turnpike.claim_jobs, turnpike.lock_job, turnpike.end_job to turnpike_gateway;
  end if;
  if exists (select from pg_roles where rolname = 'turnpike_admin') then
    grant select on turnpike.object, turnpike.job, turnpike.open_jobs to turnpike_admin;
  end if;
end $$;

comment on function turnpike.grant_objects() is 'Part of grant_roles(): what providers keep, and what they work on.';

revoke all on function turnpike.park_exchange, turnpike.claim_jobs, turnpike.lock_job, turnpike.end_job from public;
select turnpike.grant_objects();
