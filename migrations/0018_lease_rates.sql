-- Rates across replicas. A gateway leases chunks of a window's allowance and counts them in memory; what it leased counts as used,
-- so that the sum over replicas never passes the limit. A window begins with its first request, by Postgres' clock, and what is
-- unused when it ends lapses. Places for concurrent exchanges are leased by each process under its own name, so that those of one
-- that died come back. Unlogged: a crash of Postgres starts windows anew, which costs nobody money, and a process
-- tells its places again when it next leases for their subject. Safe: adds columns that may be null, tables and functions.

alter table turnpike.access_token
  add column requests_per_second integer,
  add column requests_per_hour integer,
  add column tokens_per_minute bigint,
  add constraint access_token_requests_per_second_positive check (requests_per_second > 0),
  add constraint access_token_requests_per_hour_positive check (requests_per_hour > 0),
  add constraint access_token_tokens_per_minute_positive check (tokens_per_minute > 0);

comment on column turnpike.access_token.requests_per_second is 'Requests in a second. Null: no limit.';
comment on column turnpike.access_token.requests_per_hour is 'Requests in an hour. Null: no limit.';
comment on column turnpike.access_token.tokens_per_minute is 'Input and output tokens in a minute, as they are used; what is open when the limit is reached may pass it. Null: no limit.';

create unlogged table turnpike.rate_window (
  subject    text not null,
  measure    text not null,
  seconds    integer not null,
  started_at timestamptz not null,
  most       bigint not null,
  spent      bigint not null,
  wanted     bigint not null,
  granted    bigint not null,
  used       bigint not null,
  constraint rate_window_identified primary key (subject, measure, seconds),
  constraint rate_window_measure_known check (measure in ('requests', 'tokens')),
  constraint rate_window_seconds_positive check (seconds > 0)
) with (fillfactor = 50);
create index rate_window_by_start on turnpike.rate_window (started_at);

comment on table turnpike.rate_window is 'What is used of rates: the latest window of each. Unlogged.';
comment on column turnpike.rate_window.subject is 'Whose rate: token:<id> or address:<network>.';
comment on column turnpike.rate_window.measure is 'What is counted: requests or tokens.';
comment on column turnpike.rate_window.seconds is 'How long the window lasts.';
comment on column turnpike.rate_window.started_at is 'When it began: with its first request.';
comment on column turnpike.rate_window.most is 'The limit, as it was when somebody asked last.';
comment on column turnpike.rate_window.spent is 'Used beyond any lease, as it was told last.';
comment on column turnpike.rate_window.wanted is 'What was asked for last.';
comment on column turnpike.rate_window.granted is 'The chunk that was leased last.';
comment on column turnpike.rate_window.used is 'All that was leased or spent in this window. Above the limit only by what was spent beyond a lease.';

create unlogged table turnpike.rate_place (
  subject     text not null,
  instance_id bigint not null,
  places      integer not null,
  constraint rate_place_identified primary key (subject, instance_id),
  constraint rate_place_positive check (places > 0)
) with (fillfactor = 50);
create index rate_place_by_instance on turnpike.rate_place (instance_id);

comment on table turnpike.rate_place is 'Which process has leased how many concurrent exchanges of whom. Rows of processes that are gone count for nothing. Unlogged.';
comment on column turnpike.rate_place.subject is 'Whose exchanges: token:<id> or address:<network>.';
comment on column turnpike.rate_place.instance_id is 'The process.';
comment on column turnpike.rate_place.places is 'How many it may have open.';

create function turnpike.rate_chunk(most bigint, used bigint, wanted bigint) returns bigint
language sql immutable
return case when wanted <= 0 then 0 else greatest(least(greatest(wanted, (most - used) / 16), most - used), 0) end;

comment on function turnpike.rate_chunk(bigint, bigint, bigint) is
  'How much is leased at once: what is wanted, or a sixteenth of what is left if that is more; never more than is left.';

-- One statement: rows are locked in the order of their keys, and each is decided on what stands there then.
create function turnpike.lease_windows(
  subjects text[], measures text[], seconds integer[], limits bigint[], spent bigint[], wanted bigint[],
  at timestamptz default clock_timestamp()
) returns table (granted bigint, remaining bigint, ends_in_ms bigint)
language sql
begin atomic
  with ask as (
    select * from unnest(subjects, measures, seconds, limits, spent, wanted)
      with ordinality as a (subject, measure, seconds, most, spent, wanted, place)
  ), leased as (
    insert into turnpike.rate_window as w (subject, measure, seconds, started_at, most, spent, wanted, granted, used)
    select a.subject, a.measure, a.seconds, at, a.most, a.spent, a.wanted,
           turnpike.rate_chunk(a.most, a.spent, a.wanted), a.spent + turnpike.rate_chunk(a.most, a.spent, a.wanted)
      from ask as a order by a.subject, a.measure, a.seconds
    on conflict (subject, measure, seconds) do update set
      started_at = case when w.started_at + make_interval(secs => w.seconds) <= excluded.started_at then excluded.started_at else w.started_at end,
      most = excluded.most, spent = excluded.spent, wanted = excluded.wanted,
      granted = turnpike.rate_chunk(excluded.most,
        case when w.started_at + make_interval(secs => w.seconds) <= excluded.started_at then 0 else w.used end + excluded.spent, excluded.wanted),
      used = case when w.started_at + make_interval(secs => w.seconds) <= excluded.started_at then 0 else w.used end + excluded.spent
        + turnpike.rate_chunk(excluded.most,
          case when w.started_at + make_interval(secs => w.seconds) <= excluded.started_at then 0 else w.used end + excluded.spent, excluded.wanted)
    returning w.*
  )
  select l.granted, greatest(l.most - l.used, 0),
         least(ceil(extract(epoch from l.started_at + make_interval(secs => l.seconds) - at) * 1000), l.seconds * 1000)::bigint
    from ask as a join leased as l on (l.subject, l.measure, l.seconds) = (a.subject, a.measure, a.seconds)
   order by a.place;
end;

comment on function turnpike.lease_windows(text[], text[], integer[], bigint[], bigint[], bigint[], timestamptz) is
  'Leases a chunk of each window, after counting what was spent beyond earlier leases. One row back for each, in the order given: the chunk (0: the window is full), what is left for others, and how long the window still lasts. No key may be given twice.';

create function turnpike.lease_places(subjects text[], limits integer[], used integer[], wanted integer[], instance bigint)
returns table (places integer)
language plpgsql as $$
#variable_conflict use_column
begin
  -- One after the other for each subject; in the order of the locks, so that nobody waits in a circle.
  perform pg_advisory_xact_lock(hashtext('turnpike.rate_place'), x.key)
     from (select distinct hashtext(s.subject) as key from unnest(lease_places.subjects) as s (subject) order by 1) as x;

  delete from turnpike.rate_place as p
   where p.subject = any (lease_places.subjects) and p.instance_id <> lease_places.instance
     and not exists (select from turnpike.instance as i
                      where i.id = p.instance_id and i.stopped_at is null and i.seen_at > now() - interval '30 seconds');
  return query
  with ask as (
    select a.subject, a.place,
           greatest(a.used, least(a.wanted, a.most - coalesce((
             select sum(p.places) from turnpike.rate_place as p where p.subject = a.subject and p.instance_id <> lease_places.instance), 0)))::integer as places
      from unnest(lease_places.subjects, lease_places.limits, lease_places.used, lease_places.wanted)
           with ordinality as a (subject, most, used, wanted, place)
  ), returned as (
    delete from turnpike.rate_place as p using ask as a
     where a.places = 0 and p.subject = a.subject and p.instance_id = lease_places.instance
  ), leased as (
    insert into turnpike.rate_place as p (subject, instance_id, places)
    select a.subject, lease_places.instance, a.places from ask as a where a.places > 0
    on conflict (subject, instance_id) do update set places = excluded.places
  )
  select a.places from ask as a order by a.place;
end $$;

comment on function turnpike.lease_places(text[], integer[], integer[], integer[], bigint) is
  'Tells how many exchanges this process wants to have open of each subject, and how many it has. One row back for each, in the order given: how many it may have open. Places of processes that stopped, or were not seen for 30 seconds, are free.';

-- Beside grant_roles(), and as harmless to repeat.
create function turnpike.grant_rates() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from pg_roles where rolname = 'turnpike_gateway') then
    grant select, insert, update, delete on turnpike.rate_window, turnpike.rate_place to turnpike_gateway;
    grant execute on function turnpike.rate_chunk, turnpike.lease_windows, turnpike.lease_places to turnpike_gateway;
  end if;
  if exists (select from pg_roles where rolname = 'turnpike_admin') then
    grant select (requests_per_second, requests_per_hour, tokens_per_minute) on turnpike.access_token to turnpike_admin;
    grant select on turnpike.rate_window, turnpike.rate_place to turnpike_admin;
  end if;
end $$;

comment on function turnpike.grant_rates() is 'Grants turnpike_gateway and turnpike_admin what they need for rates. Harmless to repeat.';

revoke all on function turnpike.rate_chunk, turnpike.lease_windows, turnpike.lease_places, turnpike.grant_rates from public;
select turnpike.grant_rates();
