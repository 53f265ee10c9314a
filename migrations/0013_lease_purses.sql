-- A purse for each access token in each process: an allowance leased here, from which holds are taken in memory. An account and a
-- token count what is leased instead of what is held: it is the most that open exchanges and those to come may cost before
-- the next word with Postgres. Taken together: spent + leased <= cap, and balance - leased >= -credit_limit, for every cap at any moment.
-- Not safe while a version that holds row by row still runs: stop it first. None was ever released.

alter table turnpike.account rename column held to leased;
alter table turnpike.account rename constraint account_held_not_negative to account_leased_not_negative;
comment on column turnpike.account.leased is 'Sum of the money in its leases, nano-USD. Kept by lease_purses(), return_purses(), settle_exchanges() and bury_instance(); view audit checks it.';
comment on column turnpike.account.credit_limit is 'How far below zero balance less leases may go, nano-USD. Null: as far as it likes.';
comment on table turnpike.account is 'Who pays. Half-filled pages, because leases and settlements update its counters all the time.';

alter table turnpike.access_token_counter rename column held to leased;
alter table turnpike.access_token_counter rename constraint access_token_counter_held_not_negative to access_token_counter_leased_not_negative;
alter table turnpike.access_token_counter
  add column leased_prompt bigint not null default 0,
  add column leased_completion bigint not null default 0,
  add constraint access_token_counter_leased_tokens_not_negative check (least(leased_prompt, leased_completion) >= 0);
comment on column turnpike.access_token_counter.leased is 'Sum of the money in its leases, nano-USD. Kept like account.leased; view audit checks it.';
comment on column turnpike.access_token_counter.leased_prompt is 'Sum of the input tokens in its leases.';
comment on column turnpike.access_token_counter.leased_completion is 'Sum of the output tokens in its leases.';

alter table turnpike.instance
  add column lease_seconds integer not null default 120,
  add column buried_at timestamptz,
  add constraint instance_lease_seconds_positive check (lease_seconds > 0);
comment on column turnpike.instance.lease_seconds is 'Silent for so long it counts as dead, and its leases lapse; it stops spending from them well before.';
comment on column turnpike.instance.buried_at is 'When it was found dead: from then on it gets no lease and no heartbeat is taken. Null: it lives, or nobody has looked.';

-- Which books these are, so that a journal on some machine's disk is never replayed into others.
create table turnpike.identity (
  id         uuid not null default gen_random_uuid(),
  only_row   boolean not null default true,
  constraint identity_identified primary key (id),
  constraint identity_one unique (only_row),
  constraint identity_only check (only_row)
);
insert into turnpike.identity default values;
comment on table turnpike.identity is 'One row: which books these are. A copy of the database under another name counts as other books.';
comment on column turnpike.identity.id is 'Made with the schema, and never changed.';
comment on column turnpike.identity.only_row is 'True: there is one row.';

create table turnpike.lease (
  instance_id bigint not null,
  token_id    bigint not null,
  account_id  bigint not null,
  money       bigint not null default 0,
  prompt      bigint not null default 0,
  completion  bigint not null default 0,
  request     bigint not null default 0,
  granted_money      bigint not null default 0,
  granted_prompt     bigint not null default 0,
  granted_completion bigint not null default 0,
  answered_at timestamptz not null default '-infinity',
  constraint lease_identified primary key (instance_id, token_id),
  constraint lease_of_token foreign key (token_id, account_id) references turnpike.access_token (id, account_id),
  constraint lease_by_instance foreign key (instance_id) references turnpike.instance (id),
  constraint lease_not_negative check (least(money, prompt, completion) >= 0)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
create index lease_by_account on turnpike.lease (account_id);
create index lease_by_token on turnpike.lease (token_id);

comment on table turnpike.lease is 'What each process may spend for each access token before it must ask again: what is free in its purse, and what is held for its open exchanges.';
comment on column turnpike.lease.instance_id is 'The process.';
comment on column turnpike.lease.token_id is 'The access token.';
comment on column turnpike.lease.account_id is 'Who pays.';
comment on column turnpike.lease.money is 'Nano-USD: granted, less what was returned and what its exchanges were charged.';
comment on column turnpike.lease.prompt is 'Input tokens, likewise.';
comment on column turnpike.lease.completion is 'Output tokens, likewise.';
comment on column turnpike.lease.request is 'The last request of the process that changed it: one whose answer was lost is repeated and changes nothing.';
comment on column turnpike.lease.granted_money is 'What that request was granted, nano-USD.';
comment on column turnpike.lease.granted_prompt is 'What that request was granted, input tokens.';
comment on column turnpike.lease.granted_completion is 'What that request was granted, output tokens.';
comment on column turnpike.lease.answered_at is 'When the process last gave back all it could spare.';

-- The evidence of an open exchange now says what a charge needs, should its process die.
alter table turnpike.hold
  add column price_id bigint,
  add column upstream_id bigint,
  add column upstream_key_id bigint,
  add column prompt bigint not null default 0,
  add column completion bigint not null default 0,
  add column estimate bigint not null default 0,
  add column started_at timestamptz not null default now(),
  add column stream boolean not null default false,
  add column endpoint text not null default '',
  add constraint hold_tokens_not_negative check (least(prompt, completion, estimate) >= 0);
create index hold_by_process on turnpike.hold (instance_id);
comment on table turnpike.hold is 'Evidence of open exchanges and the most each can cost, written in the background. A row goes when its exchange ends; one whose process died is settled by another (setting ORPHANS).';
comment on column turnpike.hold.price_id is 'The price version in force. Null: written by a version that did not say.';
comment on column turnpike.hold.upstream_id is 'Who is asked.';
comment on column turnpike.hold.upstream_key_id is 'With which key.';
comment on column turnpike.hold.prompt is 'Input tokens it may use.';
comment on column turnpike.hold.completion is 'Output tokens it may use.';
comment on column turnpike.hold.estimate is 'What the request alone costs, nano-USD: the charge, if no more is ever known.';
comment on column turnpike.hold.started_at is 'When the request''s head came.';
comment on column turnpike.hold.stream is 'Whether a stream of events was asked for.';
comment on column turnpike.hold.endpoint is 'The endpoint by short name.';

drop function turnpike.take_holds(uuid[], bigint[], bigint[], bigint[], text[], bigint, integer);

-- Like everything that moves counters it locks accounts, then token counters, then leases, each in id order, before anything
-- else: with several processes this is what rules deadlocks out. plpgsql, so that what follows the locks sees what was committed
-- while they waited, and so that plans are kept without a session (pgbouncer).
create function turnpike.lease_purses(
  instance bigint, request bigint, tokens bigint[], accounts bigint[],
  need_money bigint[], want_money bigint[], need_prompt bigint[], want_prompt bigint[], need_completion bigint[], want_completion bigint[],
  asked timestamptz[], lock_ms integer default 1000
) returns table (verdict text, money bigint, prompt bigint, completion bigint, short_of text, available bigint, pending boolean, asked_at timestamptz)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
  want record;
  a record;
  t record;
  old turnpike.lease;
  today date;
  account_left bigint;
  money_left bigint;
  prompt_left bigint;
  completion_left bigint;
  is_alive boolean;
  most constant bigint := 9223372036854775807;
  plenty constant bigint := 1000000000000;
begin
  -- So that row locks do not last as long as the disk takes; the caller sends a synchronous commit right behind it, since a grant that
  -- a crash takes back would be granted to somebody else too.
  perform set_config('synchronous_commit', 'off', true);
  perform set_config('lock_timeout', lease_purses.lock_ms::text, true);
  perform from turnpike.account as x where x.id = any (lease_purses.accounts) order by x.id for no key update;
  perform from turnpike.access_token_counter as x where x.token_id = any (lease_purses.tokens) order by x.token_id for no key update;
  today := (clock_timestamp() at time zone 'UTC')::date;
  select x.buried_at is null into is_alive from turnpike.instance as x where x.id = lease_purses.instance;

  for want in
    select * from unnest(lease_purses.tokens, lease_purses.accounts, lease_purses.need_money, lease_purses.want_money,
      lease_purses.need_prompt, lease_purses.want_prompt, lease_purses.need_completion, lease_purses.want_completion, lease_purses.asked)
      with ordinality as w (token, account, need_money, want_money, need_prompt, want_prompt, need_completion, want_completion, asked, place)
     order by w.place
  loop
    select null, 0, 0, 0, null, null, false, null
      into verdict, money, prompt, completion, short_of, available, pending, asked_at;
    select l.* into old from turnpike.lease as l where l.instance_id = lease_purses.instance and l.token_id = want.token;
    if old.request >= lease_purses.request then
      verdict := 'granted';
      if old.request = lease_purses.request then
        money := old.granted_money;
        prompt := old.granted_prompt;
        completion := old.granted_completion;
      end if;
      return next;
      continue;
    end if;
    select case when x.credit_limit is not null then least(x.balance::numeric + x.credit_limit - x.leased, most)::bigint end as rest
      into a from turnpike.account as x where x.id = want.account;
    -- Nulls, where there is no cap, do not count in least().
    select k.budget - c.spent - c.leased as budget,
           k.budget_day - case when c.day >= today then c.spent_day else 0 end - c.leased as budget_day,
           k.budget_month - case when c.month >= date_trunc('month', today)::date then c.spent_month else 0 end - c.leased as budget_month,
           k.prompt_tokens - c.prompt - c.leased_prompt as prompt_tokens,
           k.prompt_tokens_day - case when c.day >= today then c.prompt_day else 0 end - c.leased_prompt as prompt_tokens_day,
           k.prompt_tokens_month - case when c.month >= date_trunc('month', today)::date then c.prompt_month else 0 end - c.leased_prompt as prompt_tokens_month,
           k.completion_tokens - c.completion - c.leased_completion as completion_tokens,
           k.completion_tokens_day - case when c.day >= today then c.completion_day else 0 end - c.leased_completion as completion_tokens_day,
           k.completion_tokens_month - case when c.month >= date_trunc('month', today)::date then c.completion_month else 0 end - c.leased_completion as completion_tokens_month
      into t
      from turnpike.access_token as k join turnpike.access_token_counter as c on c.token_id = k.id
     where k.id = want.token and k.account_id = want.account and k.revoked_at is null and (k.expires_at is null or k.expires_at > now());
    if not found or not coalesce(is_alive, false) then
      verdict := case when coalesce(is_alive, false) then 'gone' else 'buried' end;
      return next;
      continue;
    end if;
    account_left := a.rest;
    money_left := least(a.rest, t.budget, t.budget_day, t.budget_month);
    prompt_left := least(t.prompt_tokens, t.prompt_tokens_day, t.prompt_tokens_month);
    completion_left := least(t.completion_tokens, t.completion_tokens_day, t.completion_tokens_month);

    if want.need_money > money_left then
      available := money_left;
      short_of := case money_left when account_left then 'account' when t.budget then 'budget' when t.budget_day then 'budget_day' else 'budget_month' end;
    elsif want.need_prompt > prompt_left then
      available := prompt_left;
      short_of := case prompt_left when t.prompt_tokens then 'prompt_tokens' when t.prompt_tokens_day then 'prompt_tokens_day' else 'prompt_tokens_month' end;
    elsif want.need_completion > completion_left then
      available := completion_left;
      short_of := case completion_left when t.completion_tokens then 'completion_tokens' when t.completion_tokens_day then 'completion_tokens_day' else 'completion_tokens_month' end;
    end if;
    if short_of is not null then
      verdict := 'short';
      available := greatest(available, 0);
      asked_at := coalesce(want.asked, clock_timestamp());
      -- What is needed comes whole or not at all, so that two that are short cannot each sit on what the other lacks.
      pending := exists (
        select from turnpike.lease as l
         where case when short_of = 'account' then l.account_id = want.account else l.token_id = want.token end
           and not (l.instance_id = lease_purses.instance and l.token_id = want.token)
           and greatest(l.money, l.prompt, l.completion) > 0 and l.answered_at < asked_at
           -- A process that is gone answers nobody; its leases come back when it is buried.
           and exists (select from turnpike.instance as i where i.id = l.instance_id and i.stopped_at is null and i.seen_at > now() - interval '30 seconds'));
      if pending and want.asked is null then
        perform pg_notify('turnpike', case when short_of = 'account' then 'recall:account:' || want.account else 'recall:token:' || want.token end);
      end if;
      return next;
      continue;
    end if;

    -- Of what is left a quarter at most, beyond what is needed: the rest is for the other purses.
    verdict := 'granted';
    money := case when money_left is null then want.want_money
                  else greatest(want.need_money, least(want.want_money, greatest(money_left, 0) / 4)) end;
    -- Where tokens have no cap they are none of the limits that keep an exchange waiting.
    prompt := case when prompt_left is null then greatest(want.need_prompt, plenty - coalesce(old.prompt, 0), 0)
                   else greatest(want.need_prompt, least(want.want_prompt, greatest(prompt_left, 0) / 4)) end;
    completion := case when completion_left is null then greatest(want.need_completion, plenty - coalesce(old.completion, 0), 0)
                       else greatest(want.need_completion, least(want.want_completion, greatest(completion_left, 0) / 4)) end;
    insert into turnpike.lease as l (instance_id, token_id, account_id, money, prompt, completion, request, granted_money, granted_prompt, granted_completion)
    values (lease_purses.instance, want.token, want.account, lease_purses.money, lease_purses.prompt, lease_purses.completion, lease_purses.request,
            lease_purses.money, lease_purses.prompt, lease_purses.completion)
    on conflict on constraint lease_identified do update
      set money = l.money + excluded.money, prompt = l.prompt + excluded.prompt, completion = l.completion + excluded.completion,
          request = excluded.request, granted_money = excluded.money, granted_prompt = excluded.prompt, granted_completion = excluded.completion;
    update turnpike.account as x set leased = x.leased + lease_purses.money where x.id = want.account;
    update turnpike.access_token_counter as x
       set leased = x.leased + lease_purses.money, leased_prompt = x.leased_prompt + lease_purses.prompt, leased_completion = x.leased_completion + lease_purses.completion
     where x.token_id = want.token;
    return next;
  end loop;
end $$;

comment on function turnpike.lease_purses(bigint, bigint, bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], timestamptz[], integer) is
  'Grants allowances to one process, for each token what it needs at least (or nothing) and wants at most. One row back for each, in order: granted; short (of what, what is left, whether other purses may still give back since asked_at: it tells them to); gone (token revoked, expired or unknown); buried (the process counts as dead).';

create function turnpike.return_purses(
  instance bigint, request bigint, tokens bigint[], accounts bigint[], money bigint[], prompt bigint[], completion bigint[], lock_ms integer default 1000
) returns void
language plpgsql set enable_seqscan = off as $$
begin
  perform set_config('synchronous_commit', 'off', true);
  perform set_config('lock_timeout', return_purses.lock_ms::text, true);
  perform from turnpike.account as x where x.id = any (return_purses.accounts) order by x.id for no key update;
  perform from turnpike.access_token_counter as x where x.token_id = any (return_purses.tokens) order by x.token_id for no key update;
  with given as (
    select l.token_id, l.account_id, least(l.money, g.money) as money, least(l.prompt, g.prompt) as prompt, least(l.completion, g.completion) as completion
      from unnest(return_purses.tokens, return_purses.money, return_purses.prompt, return_purses.completion) as g (token_id, money, prompt, completion)
      join turnpike.lease as l on l.token_id = g.token_id
     where l.instance_id = return_purses.instance and l.request < return_purses.request
  ),
  leases as (
    update turnpike.lease as l
       set money = l.money - g.money, prompt = l.prompt - g.prompt, completion = l.completion - g.completion,
           request = return_purses.request, granted_money = 0, granted_prompt = 0, granted_completion = 0, answered_at = clock_timestamp()
      from given as g where l.instance_id = return_purses.instance and l.token_id = g.token_id
  ),
  accounts as (
    update turnpike.account as x set leased = x.leased - s.money
      from (select g.account_id, sum(g.money)::bigint as money from given as g group by g.account_id) as s where x.id = s.account_id
  )
  update turnpike.access_token_counter as x
     set leased = x.leased - g.money, leased_prompt = x.leased_prompt - g.prompt, leased_completion = x.leased_completion - g.completion
    from given as g where x.token_id = g.token_id;
  delete from turnpike.lease as l
   where l.instance_id = return_purses.instance and l.token_id = any (return_purses.tokens) and greatest(l.money, l.prompt, l.completion) = 0;
end $$;

comment on function turnpike.return_purses(bigint, bigint, bigint[], bigint[], bigint[], bigint[], bigint[], integer) is
  'Gives back what a process can spare, for each token; zeros say that it can spare nothing, which answers a recall. Repeating a request changes nothing.';

-- An edit may let in what was refused a moment ago: whoever remembers a shortage forgets it.
create function turnpike.tell_account() returns trigger
language plpgsql as $$
begin
  if tg_table_name = 'credit' then
    perform pg_notify('turnpike', 'account:' || new.account_id);
  else
    perform pg_notify('turnpike', 'account:' || new.id);
  end if;
  return null;
end $$;

comment on function turnpike.tell_account() is 'Trigger on credit and on account.credit_limit: tells every gateway that an account''s means changed.';

create trigger credit_told after insert on turnpike.credit for each row execute function turnpike.tell_account();
create trigger account_told after update of credit_limit on turnpike.account for each row execute function turnpike.tell_account();
