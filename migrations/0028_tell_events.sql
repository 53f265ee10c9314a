-- Budgets, accounts, expiring tokens and refused keys speak up: each event is a row, each webhook that wants it has a delivery to be made,
-- and gateways make them until the receiver has answered 2xx. Budgets are looked at beside settling, never in it. What makes an event
-- one event is its key, so that neither a crash nor a second replica tells it twice. Safe: adds tables and functions.

create table turnpike.webhook (
  id         bigint generated always as identity,
  account_id bigint,
  created_at timestamptz not null default now(),
  enabled    boolean not null default true,
  name       text not null,
  url        text not null,
  secret     text not null,
  form       text not null default 'json',
  events     text[],
  constraint webhook_identified primary key (id),
  constraint webhook_name_unique unique (name),
  constraint webhook_of_account foreign key (account_id) references turnpike.account (id),
  constraint webhook_name_printable check (name ~ '^[^[:cntrl:]]+$' and name = btrim(name) and length(name) <= 200),
  constraint webhook_url_is_http check (url ~ '^https?://[^/?#@[:space:][:cntrl:]]+([/?][^#[:space:][:cntrl:]]*)?$' and length(url) <= 2000),
  constraint webhook_secret_is_signing check (secret ~ '^(env|file):[^[:cntrl:]]+$' or secret ~ '^whsec_[A-Za-z0-9+/]{32,88}={0,2}$'),
  constraint webhook_form_known check (form in ('json', 'slack')),
  constraint webhook_events_known check (cardinality(events) > 0
    and events <@ '{budget.reached,token.expiring,upstream.key_ejected,upstream.pool_out}'::text[])
);

comment on table turnpike.webhook is 'Who is told of events. Made by set_webhook().';
comment on column turnpike.webhook.id is 'The webhook.';
comment on column turnpike.webhook.account_id is 'Only events of this account. Null: of all, and those that are of none.';
comment on column turnpike.webhook.created_at is 'When it was made. Nothing older is told.';
comment on column turnpike.webhook.enabled is 'Whether it is told of anything.';
comment on column turnpike.webhook.name is 'What operators call it; unique.';
comment on column turnpike.webhook.url is 'Where events are posted to. Redirects are not followed.';
comment on column turnpike.webhook.secret is 'Signs deliveries: env:NAME, file:PATH (both read by the gateway), or the key itself: whsec_ and base64. Readable by the gateway alone.';
comment on column turnpike.webhook.form is 'json (Standard Webhooks) or slack ({"text": ...}).';
comment on column turnpike.webhook.events is 'The kinds it is told of. Null: all.';

create table turnpike.event (
  id         uuid not null default gen_random_uuid(),
  account_id bigint,
  token_id   bigint,
  at         timestamptz not null default clock_timestamp(),
  kept_until timestamptz,
  kind       text not null,
  key        text not null,
  payload    jsonb not null,
  constraint event_identified primary key (id),
  constraint event_once unique (key),
  constraint event_of_account foreign key (account_id) references turnpike.account (id),
  constraint event_of_token foreign key (token_id, account_id) references turnpike.access_token (id, account_id)
);
create index event_by_end on turnpike.event (kept_until) where kept_until is not null;

comment on table turnpike.event is 'What happened that somebody may want to know, each thing once.';
comment on column turnpike.event.id is 'The event: header webhook-id of each of its deliveries.';
comment on column turnpike.event.account_id is 'Whose. Null: the operator''s.';
comment on column turnpike.event.token_id is 'Which access token''s. Null: none''s.';
comment on column turnpike.event.at is 'When it was noticed.';
comment on column turnpike.event.kept_until is 'When it may be forgotten. Null: never, since then it would be told again.';
comment on column turnpike.event.kind is 'budget.reached, token.expiring, upstream.key_ejected, upstream.pool_out.';
comment on column turnpike.event.key is 'What makes it one event: subject, window, threshold.';
comment on column turnpike.event.payload is 'What is told: names and figures, neither secrets nor contents.';

create table turnpike.delivery (
  webhook_id   bigint not null,
  event_id     uuid not null,
  attempts     integer not null default 0,
  next_at      timestamptz not null default now(),
  delivered_at timestamptz,
  failed_at    timestamptz,
  last_error   text,
  constraint delivery_identified primary key (webhook_id, event_id),
  constraint delivery_of_event foreign key (event_id) references turnpike.event (id) on delete cascade,
  constraint delivery_to_webhook foreign key (webhook_id) references turnpike.webhook (id) on delete cascade,
  constraint delivery_ended_once check (delivered_at is null or failed_at is null)
) with (fillfactor = 70);
create index delivery_due on turnpike.delivery (webhook_id, next_at) where delivered_at is null and failed_at is null;
create index delivery_by_event on turnpike.delivery (event_id);

comment on table turnpike.delivery is 'Events on their way to webhooks, and how that went.';
comment on column turnpike.delivery.webhook_id is 'To whom.';
comment on column turnpike.delivery.event_id is 'What.';
comment on column turnpike.delivery.attempts is 'How often it was tried.';
comment on column turnpike.delivery.next_at is 'When it is tried next, by any gateway; while one is at it, when its claim lapses.';
comment on column turnpike.delivery.delivered_at is 'When the receiver had answered 2xx. It is not sent again.';
comment on column turnpike.delivery.failed_at is 'When it was given up.';
comment on column turnpike.delivery.last_error is 'Why the last try failed.';

-- The thresholds of budgets and of what an account has, and the days before a token ends. Every passed one that has no event gets it.
create function turnpike.look_at_budgets() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  today constant date := (clock_timestamp() at time zone 'UTC')::date;
  this_month constant date := date_trunc('month', (clock_timestamp() at time zone 'UTC'))::date;
  told integer;
begin
  with cap as (
    select k.account_id, k.id as token_id, k.prefix, k.label, b.*
      from turnpike.access_token as k join turnpike.access_token_counter as c on c.token_id = k.id,
           lateral (select case when c.day >= today then c.day end as day, greatest(c.day, today) as the_day,
                           case when c.month >= this_month then c.month end as month, greatest(c.month, this_month) as the_month) as w,
           lateral (values
             ('budget', true, k.budget, c.spent, null::date, null::timestamptz),
             ('budget_day', true, k.budget_day, case when w.day is not null then c.spent_day else 0 end, w.the_day, w.the_day + interval '60 days'),
             ('budget_month', true, k.budget_month, case when w.month is not null then c.spent_month else 0 end, w.the_month, w.the_month + interval '90 days'),
             ('prompt_tokens', false, k.prompt_tokens, c.prompt, null, null),
             ('prompt_tokens_day', false, k.prompt_tokens_day, case when w.day is not null then c.prompt_day else 0 end, w.the_day, w.the_day + interval '60 days'),
             ('prompt_tokens_month', false, k.prompt_tokens_month, case when w.month is not null then c.prompt_month else 0 end, w.the_month, w.the_month + interval '90 days'),
             ('completion_tokens', false, k.completion_tokens, c.completion, null, null),
             ('completion_tokens_day', false, k.completion_tokens_day, case when w.day is not null then c.completion_day else 0 end, w.the_day, w.the_day + interval '60 days'),
             ('completion_tokens_month', false, k.completion_tokens_month, case when w.month is not null then c.completion_month else 0 end, w.the_month, w.the_month + interval '90 days')
           ) as b (budget, is_money, cap, used, since, kept_until)
     where k.revoked_at is null and (k.expires_at is null or k.expires_at > now()) and b.cap > 0 and b.used::numeric * 2 >= b.cap
       -- Most tokens are far from all of their caps: said once more of the rows themselves, so that they are not looked at nine times each.
       and (c.spent >= k.budget / 2 or c.spent_day >= k.budget_day / 2 or c.spent_month >= k.budget_month / 2
            or c.prompt >= k.prompt_tokens / 2 or c.prompt_day >= k.prompt_tokens_day / 2 or c.prompt_month >= k.prompt_tokens_month / 2
            or c.completion >= k.completion_tokens / 2 or c.completion_day >= k.completion_tokens_day / 2
            or c.completion_month >= k.completion_tokens_month / 2)
  ),
  purse as (
    select a.id as account_id, a.balance, a.credit_limit, u.id as credit_id, u.amount as topped_up,
           coalesce(u.amount, 0)::numeric + coalesce(a.credit_limit, 0) as means, a.balance::numeric + coalesce(a.credit_limit, 0) as rest
      from turnpike.account as a
      left join lateral (select x.id, x.amount from turnpike.credit as x where x.account_id = a.id and x.amount > 0 order by x.id desc limit 1) as u on true
  ),
  found as (
    select 'budget.reached' as kind, c.account_id, c.token_id, c.kept_until,
           format('budget:%s:%s:%s:%s:%s', c.token_id, c.budget, coalesce(c.since::text, '-'), c.cap, t.threshold) as key,
           jsonb_strip_nulls(jsonb_build_object(
             'threshold', t.threshold, 'budget', c.budget, 'since', c.since, 'token_id', c.token_id, 'token', c.prefix, 'token_label', c.label,
             'limit_nano_usd', case when c.is_money then c.cap end, 'used_nano_usd', case when c.is_money then c.used end,
             'limit_usd', case when c.is_money then turnpike.usd(c.cap)::text end, 'used_usd', case when c.is_money then turnpike.usd(c.used)::text end,
             'limit_tokens', case when not c.is_money then c.cap end, 'used_tokens', case when not c.is_money then c.used end)) as payload,
           t.threshold as rank
      from cap as c, unnest(array[50, 80, 100]) as t (threshold)
     where c.used::numeric * 100 >= c.cap::numeric * t.threshold
    union all
    select 'budget.reached', p.account_id, null, null,
           format('account:%s:%s:%s:%s', p.account_id, coalesce(p.credit_id, 0), coalesce(p.credit_limit, -1), t.threshold),
           jsonb_strip_nulls(jsonb_build_object(
             'threshold', t.threshold, 'budget', 'account', 'balance_nano_usd', p.balance, 'balance_usd', turnpike.usd(p.balance)::text,
             'last_top_up_usd', turnpike.usd(p.topped_up)::text, 'credit_limit_usd', turnpike.usd(p.credit_limit)::text)),
           t.threshold
      from purse as p, unnest(array[50, 80, 100]) as t (threshold)
     where p.means > 0 and p.rest * 100 <= p.means * (100 - t.threshold)
    union all
    select 'token.expiring', k.account_id, k.id, k.expires_at + interval '30 days',
           format('expiring:%s:%s:%s', k.id, extract(epoch from k.expires_at), t.days),
           jsonb_strip_nulls(jsonb_build_object(
             'days', t.days, 'expires_at', to_char(k.expires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'token_id', k.id, 'token', k.prefix, 'token_label', k.label)),
           - t.days
      from turnpike.access_token as k, unnest(array[7, 1]) as t (days)
     where k.revoked_at is null and k.expires_at > now() and k.expires_at <= now() + t.days * interval '1 day'
       -- Who makes a token for a day knows that it ends tomorrow.
       and k.created_at < k.expires_at - t.days * interval '1 day'
  ),
  event as (
    insert into turnpike.event as e (kind, account_id, token_id, kept_until, key, payload)
    select f.kind, f.account_id, f.token_id, f.kept_until, f.key, f.payload || jsonb_build_object('account_id', f.account_id, 'account', a.name)
      from found as f join turnpike.account as a on a.id = f.account_id
     where not exists (select from turnpike.event as o where o.key = f.key)
     order by f.rank, f.key
    on conflict on constraint event_once do nothing
    returning e.id, e.kind, e.account_id
  ),
  delivery as (
    insert into turnpike.delivery (event_id, webhook_id)
    select e.id, w.id from event as e join turnpike.webhook as w
      on w.enabled and (w.events is null or e.kind = any (w.events)) and (w.account_id is null or w.account_id = e.account_id)
  )
  select count(*) into told from event;
  return told;
end $$;

comment on function turnpike.look_at_budgets() is 'Makes events of all thresholds that are passed and have none yet. Returns how many.';

create function turnpike.watch_budgets() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from turnpike.webhook as w where w.enabled) or not pg_try_advisory_xact_lock(hashtextextended('turnpike.watch_budgets', 0)) then
    return 0;
  end if;
  return turnpike.look_at_budgets();
end $$;

comment on function turnpike.watch_budgets() is 'look_at_budgets(), if anybody wants to know and nobody else is at it. Gateways call it every few seconds.';

create function turnpike.tell_upstream(kind text, upstream bigint, upstream_key bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  hour constant timestamptz := date_trunc('hour', clock_timestamp(), 'UTC');
  new_id uuid;
begin
  if tell_upstream.kind not in ('upstream.key_ejected', 'upstream.pool_out') then
    raise exception 'there is no such event' using errcode = 'invalid_parameter_value';
  end if;
  insert into turnpike.event as e (kind, key, kept_until, payload)
  select tell_upstream.kind, format('%s:%s:%s:%s', tell_upstream.kind, u.id, case tell_upstream.kind when 'upstream.key_ejected' then tell_upstream.upstream_key end,
                                    extract(epoch from hour)), hour + interval '60 days',
         jsonb_strip_nulls(jsonb_build_object('upstream_id', u.id, 'upstream', u.name, 'upstream_key_id', tell_upstream.upstream_key))
    from turnpike.upstream as u where u.id = tell_upstream.upstream
  on conflict on constraint event_once do nothing
  returning e.id into new_id;
  insert into turnpike.delivery (event_id, webhook_id)
  select new_id, w.id from turnpike.webhook as w
   where new_id is not null and w.enabled and (w.events is null or tell_upstream.kind = any (w.events)) and w.account_id is null;
  return new_id is not null;
end $$;

comment on function turnpike.tell_upstream(text, bigint, bigint) is 'Makes an event of a key that an upstream refused, or of an upstream all of whose keys rest: once in an hour for each. False: it was told.';

create function turnpike.claim_deliveries(busy bigint[], webhooks integer, each integer, claimed_seconds integer)
returns table (webhook bigint, event uuid, attempt integer, name text, url text, secret text, form text, kind text, at timestamptz, payload jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  return query
  with due as materialized (
    select d.webhook_id, d.event_id
      from (select w.id from turnpike.webhook as w,
                   lateral (select x.next_at from turnpike.delivery as x
                             where x.webhook_id = w.id and x.delivered_at is null and x.failed_at is null and x.next_at <= now()
                             order by x.next_at limit 1) as first
             where w.enabled and w.id <> all (claim_deliveries.busy) order by first.next_at limit claim_deliveries.webhooks) as w,
           lateral (select x.webhook_id, x.event_id from turnpike.delivery as x
                     where x.webhook_id = w.id and x.delivered_at is null and x.failed_at is null and x.next_at <= now()
                     order by x.next_at limit claim_deliveries.each for update skip locked) as d
  ),
  claimed as (
    update turnpike.delivery as d set attempts = d.attempts + 1, next_at = now() + claim_deliveries.claimed_seconds * interval '1 second'
      from due where d.webhook_id = due.webhook_id and d.event_id = due.event_id
    returning d.webhook_id, d.event_id, d.attempts
  )
  select c.webhook_id, c.event_id, c.attempts, w.name, w.url, w.secret, w.form, e.kind, e.at, e.payload
    from claimed as c join turnpike.webhook as w on w.id = c.webhook_id join turnpike.event as e on e.id = c.event_id
   order by e.at, e.id;
end $$;

comment on function turnpike.claim_deliveries(bigint[], integer, integer, integer) is
  'Deliveries that are due, for one process and so many seconds: of so many webhooks, so many of each, the longest due first; none of those that it is busy with. What another works on is passed over.';

create function turnpike.record_delivery(webhook bigint, event uuid, attempt integer, outcome text, error text default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  -- Seconds to the next try: over a day in all.
  waits constant integer[] := array[5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800];
begin
  case record_delivery.outcome
    when 'delivered' then
      -- Whoever was first: the receiver has it.
      update turnpike.delivery as d set delivered_at = clock_timestamp(), failed_at = null, last_error = null
       where d.webhook_id = record_delivery.webhook and d.event_id = record_delivery.event and d.delivered_at is null;
      return 'delivered';
    when 'untried' then
      update turnpike.delivery as d set attempts = d.attempts - 1, next_at = now() + interval '30 seconds'
       where d.webhook_id = record_delivery.webhook and d.event_id = record_delivery.event and d.attempts = record_delivery.attempt
         and d.delivered_at is null and d.failed_at is null;
      return 'untried';
    when 'failed' then
      update turnpike.delivery as d
         set last_error = left(record_delivery.error, 500),
             next_at = case when d.attempts <= cardinality(waits) then clock_timestamp() + waits[d.attempts] * interval '1 second' else d.next_at end,
             failed_at = case when d.attempts > cardinality(waits) then clock_timestamp() end
       where d.webhook_id = record_delivery.webhook and d.event_id = record_delivery.event and d.attempts = record_delivery.attempt
         and d.delivered_at is null and d.failed_at is null;
      return case when record_delivery.attempt > cardinality(waits) then 'given_up' else 'failed' end;
    else
      raise exception 'there is no such outcome' using errcode = 'invalid_parameter_value';
  end case;
end $$;

comment on function turnpike.record_delivery(bigint, uuid, integer, text, text) is
  'How a try went: delivered (2xx), failed (it is tried again, the later the oftener; after the eleventh try, a day after the first, it is given up), untried. Returns delivered, failed, given_up or untried.';

create function turnpike.sweep_events() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  swept integer;
begin
  delete from turnpike.delivery as d where coalesce(d.delivered_at, d.failed_at) < now() - interval '30 days';
  delete from turnpike.event as e where e.kept_until < now();
  get diagnostics swept = row_count;
  return swept;
end $$;

comment on function turnpike.sweep_events() is 'Forgets events whose time is over, and deliveries that ended a month ago. Returns how many events. Gateways call it daily.';

-- Runs as its owner: operators set secrets but read none.
create function turnpike.set_webhook(
  name text,
  url text,
  secret text default null,
  form text default 'json',
  events text[] default null,
  account text default null,
  enabled boolean default true
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  target bigint;
  old turnpike.webhook;
  fresh text;
begin
  if set_webhook.name is null or set_webhook.name !~ '^[^[:cntrl:]]+$' or set_webhook.name <> btrim(set_webhook.name) or length(set_webhook.name) > 200 then
    raise exception 'the name is empty, too long or has blanks around it' using errcode = 'invalid_parameter_value';
  end if;
  if set_webhook.url is null or set_webhook.url !~ '^https?://[^/?#@[:space:][:cntrl:]]+([/?][^#[:space:][:cntrl:]]*)?$' or length(set_webhook.url) > 2000 then
    raise exception 'the URL is not of the form https://host/path' using errcode = 'invalid_parameter_value', hint = 'No credentials and no fragment: https://example.com/hooks/turnpike.';
  end if;
  if coalesce(set_webhook.form not in ('json', 'slack'), true) then
    raise exception 'there is no form %', coalesce(quote_literal(set_webhook.form), 'null') using errcode = 'invalid_parameter_value', hint = 'json or slack.';
  end if;
  if set_webhook.events is not null and (cardinality(set_webhook.events) = 0 or array_position(set_webhook.events, null) is not null
     or not set_webhook.events <@ '{budget.reached,token.expiring,upstream.key_ejected,upstream.pool_out}'::text[]) then
    raise exception 'the list of events is empty or names one that is unknown'
      using errcode = 'invalid_parameter_value', hint = 'budget.reached, token.expiring, upstream.key_ejected, upstream.pool_out; leave it out for all.';
  end if;
  if set_webhook.secret !~ '^(env|file):[^[:cntrl:]]+$' and (set_webhook.secret !~ '^whsec_[A-Za-z0-9+/]{32,88}={0,2}$' or length(set_webhook.secret) % 4 <> 2) then
    raise exception 'the secret is neither env:NAME nor file:PATH nor whsec_ and base64 of 24 to 64 bytes'
      using errcode = 'invalid_parameter_value', hint = 'Leave it out to have one made.';
  end if;
  if set_webhook.account is not null then
    select a.id into target from turnpike.account as a where a.name = set_webhook.account;
    if target is null then
      raise exception 'there is no account %', quote_ident(set_webhook.account) using errcode = 'no_data_found', hint = 'Its name: select name from turnpike.account;';
    end if;
  end if;
  -- What is past is not told to who comes later.
  perform pg_advisory_xact_lock(hashtextextended('turnpike.watch_budgets', 0));
  perform turnpike.look_at_budgets();
  select w.* into old from turnpike.webhook as w where w.name = set_webhook.name for update;
  if old.id is null and set_webhook.secret is null then
    fresh := 'whsec_' || encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'base64');
  end if;
  insert into turnpike.webhook as w (name, url, secret, form, events, account_id, enabled)
  values (set_webhook.name, set_webhook.url, coalesce(set_webhook.secret, old.secret, fresh), set_webhook.form, set_webhook.events, target, coalesce(set_webhook.enabled, true))
  on conflict on constraint webhook_name_unique do update
    set url = excluded.url, secret = excluded.secret, form = excluded.form, events = excluded.events, account_id = excluded.account_id, enabled = excluded.enabled;
  return fresh;
end $$;

comment on function turnpike.set_webhook(text, text, text, text, text[], text, boolean) is
  'Makes or changes a webhook: json or slack; events null: all; account null: all. secret: env:NAME, file:PATH or the key itself (whsec_ and base64); left out, it keeps the one it has, or gets a new one, which is returned this once.';

create function turnpike.remove_webhook(name text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  delete from turnpike.webhook as w where w.name = remove_webhook.name;
  return found;
end $$;

comment on function turnpike.remove_webhook(text) is 'Removes a webhook, with what was still to be delivered to it. False: there is none of that name.';

create view turnpike.webhook_deliveries as
select w.name as webhook, e.id as event, e.kind, e.at, a.name as account, e.payload, d.attempts, d.next_at, d.delivered_at, d.failed_at, d.last_error
  from turnpike.delivery as d
  join turnpike.webhook as w on w.id = d.webhook_id
  join turnpike.event as e on e.id = d.event_id
  left join turnpike.account as a on a.id = e.account_id
 order by e.at desc, w.name;

comment on view turnpike.webhook_deliveries is 'What webhooks were told or are to be told, the latest first.';
comment on column turnpike.webhook_deliveries.webhook is 'To whom.';
comment on column turnpike.webhook_deliveries.event is 'The event: header webhook-id.';
comment on column turnpike.webhook_deliveries.kind is 'What happened.';
comment on column turnpike.webhook_deliveries.at is 'When it was noticed.';
comment on column turnpike.webhook_deliveries.account is 'Whose event it is.';
comment on column turnpike.webhook_deliveries.payload is 'What is told.';
comment on column turnpike.webhook_deliveries.attempts is 'How often it was tried.';
comment on column turnpike.webhook_deliveries.next_at is 'When it is tried next, if it is on its way.';
comment on column turnpike.webhook_deliveries.delivered_at is 'When the receiver had answered 2xx.';
comment on column turnpike.webhook_deliveries.failed_at is 'When it was given up.';
comment on column turnpike.webhook_deliveries.last_error is 'Why the last try failed.';

revoke all on function turnpike.look_at_budgets, turnpike.watch_budgets, turnpike.tell_upstream, turnpike.claim_deliveries, turnpike.record_delivery,
  turnpike.sweep_events, turnpike.set_webhook, turnpike.remove_webhook from public;

create function turnpike.grant_events() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from pg_roles where rolname = 'turnpike_gateway') then
    grant select on turnpike.delivery to turnpike_gateway;
    grant execute on function turnpike.watch_budgets, turnpike.tell_upstream, turnpike.claim_deliveries, turnpike.record_delivery, turnpike.sweep_events
      to turnpike_gateway;
    -- `turnpike webhook test` signs, too.
    grant select on turnpike.webhook to turnpike_gateway;
  end if;
  if exists (select from pg_roles where rolname = 'turnpike_admin') then
    grant select on turnpike.event, turnpike.delivery, turnpike.webhook_deliveries to turnpike_admin;
    -- All but secret.
    grant select (id, account_id, created_at, enabled, name, url, form, events) on turnpike.webhook to turnpike_admin;
    grant execute on function turnpike.set_webhook, turnpike.remove_webhook to turnpike_admin;
  end if;
end $$;

comment on function turnpike.grant_events() is 'Part of grant_roles(): webhooks and what they are told.';

alter function turnpike.grant_roles() rename to grant_until_events;

create function turnpike.grant_roles() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform turnpike.grant_until_events();
  perform turnpike.grant_events();
end $$;

comment on function turnpike.grant_roles() is
  'Makes the roles turnpike_gateway and turnpike_admin where allowed and grants them what each needs. Harmless to repeat.';
comment on function turnpike.grant_until_events() is 'Part of grant_roles(): everything that is older than events.';

revoke all on function turnpike.grant_roles, turnpike.grant_events from public;
select turnpike.grant_events();
