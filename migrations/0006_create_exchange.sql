-- What happens: processes, open exchanges and charges. Charges are partitioned by month on the exchange's own id, a UUIDv7 whose
-- first 48 bits are the milliseconds: so the primary key is the id alone and unique over all months, which is what makes
-- settling idempotent, and old months can be dropped. Safe: adds tables.

create table turnpike.instance (
  id         bigint generated always as identity,
  started_at timestamptz not null default now(),
  seen_at    timestamptz not null default now(),
  stopped_at timestamptz,
  pid        integer not null,
  name       text not null,
  version    text not null,
  constraint instance_identified primary key (id)
) with (fillfactor = 50);

comment on table turnpike.instance is 'Running gateways, and those that ran.';
comment on column turnpike.instance.id is 'The process.';
comment on column turnpike.instance.started_at is 'When it connected.';
comment on column turnpike.instance.seen_at is 'Its last sign of life; it gives one every few seconds.';
comment on column turnpike.instance.stopped_at is 'When it said goodbye. Null and not seen for long: it died.';
comment on column turnpike.instance.pid is 'Its process id, on its own machine.';
comment on column turnpike.instance.name is 'What it calls itself: a host name, say.';
comment on column turnpike.instance.version is 'The program''s version.';

create table turnpike.hold (
  exchange_id uuid not null,
  token_id    bigint not null,
  account_id  bigint not null,
  amount      bigint not null,
  instance_id bigint not null,
  taken_at    timestamptz not null default now(),
  model       text not null,
  constraint hold_identified primary key (exchange_id),
  constraint hold_of_token foreign key (token_id, account_id) references turnpike.access_token (id, account_id),
  constraint hold_by_instance foreign key (instance_id) references turnpike.instance (id),
  constraint hold_not_negative check (amount >= 0)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 2000);

comment on table turnpike.hold is 'Open exchanges and the most each can cost. A row goes when its exchange is settled or released; one that stays is the evidence of a crash.';
comment on column turnpike.hold.exchange_id is 'The exchange, a UUIDv7 made by the gateway.';
comment on column turnpike.hold.token_id is 'Whose budget it counts against.';
comment on column turnpike.hold.account_id is 'Whose balance it counts against.';
comment on column turnpike.hold.amount is 'What is set aside, nano-USD.';
comment on column turnpike.hold.instance_id is 'Which process has the exchange.';
comment on column turnpike.hold.taken_at is 'When it was taken.';
comment on column turnpike.hold.model is 'The model the client named.';

create table turnpike.charge (
  id                  uuid not null,
  account_id          bigint not null,
  token_id            bigint not null,
  price_id            bigint not null,
  instance_id         bigint not null,
  upstream_id         bigint,
  upstream_key_id     bigint,
  amount              bigint not null,
  held                bigint not null,
  provider_cost       bigint,
  in_text             bigint not null default 0,
  in_audio            bigint not null default 0,
  in_image            bigint not null default 0,
  cr_text             bigint not null default 0,
  cr_audio            bigint not null default 0,
  cr_image            bigint not null default 0,
  cw_5m               bigint not null default 0,
  cw_1h               bigint not null default 0,
  out_text            bigint not null default 0,
  out_reasoning       bigint not null default 0,
  out_audio           bigint not null default 0,
  out_image           bigint not null default 0,
  started_at          timestamptz not null,
  settled_at          timestamptz not null default now(),
  head_after_ms       integer,
  first_byte_after_ms integer,
  ended_after_ms      integer not null,
  flags               integer not null default 0,
  status              smallint not null,
  stream              boolean not null,
  mark                text not null,
  ending              text not null,
  endpoint            text not null,
  model_requested     text not null,
  model_answered      text,
  service_tier        text,
  response_id         text,
  usage_raw           jsonb,
  constraint charge_identified primary key (id),
  constraint charge_of_token foreign key (token_id, account_id) references turnpike.access_token (id, account_id),
  constraint charge_by_price foreign key (price_id) references turnpike.price (id),
  constraint charge_amount_not_negative check (amount >= 0),
  constraint charge_buckets_not_negative
    check (least(in_text, in_audio, in_image, cr_text, cr_audio, cr_image, cw_5m, cw_1h,
                 out_text, out_reasoning, out_audio, out_image) >= 0),
  constraint charge_mark_known check (mark in ('measured', 'provider_cost', 'estimated', 'bounded', 'interrupted')),
  constraint charge_ending_known check (ending in ('complete', 'failed', 'abandoned'))
) partition by range (id);
create index charge_by_account on turnpike.charge (account_id, id);

comment on table turnpike.charge is 'What each exchange cost and why. Append-only; one partition per month (UTC).';
comment on column turnpike.charge.id is 'The exchange, a UUIDv7: the answer''s x-turnpike-exchange. Charged once, whatever is repeated.';
comment on column turnpike.charge.account_id is 'Who paid.';
comment on column turnpike.charge.token_id is 'With which access token.';
comment on column turnpike.charge.price_id is 'The price version it was computed from.';
comment on column turnpike.charge.instance_id is 'The process that settled it. Not a foreign key: old instances may be deleted.';
comment on column turnpike.charge.upstream_id is 'Who answered. Null: the built-in sandbox model. Not a foreign key: upstreams may be deleted.';
comment on column turnpike.charge.upstream_key_id is 'With which key. Not a foreign key: keys may be deleted.';
comment on column turnpike.charge.amount is 'What was charged, nano-USD.';
comment on column turnpike.charge.held is 'What had been held for it, nano-USD.';
comment on column turnpike.charge.provider_cost is 'What the provider says it cost, nano-USD. Null: it does not say.';
comment on column turnpike.charge.in_text is 'Input text tokens, neither read from a cache nor written to one. The twelve counts are disjoint.';
comment on column turnpike.charge.in_audio is 'Input audio tokens.';
comment on column turnpike.charge.in_image is 'Input image tokens.';
comment on column turnpike.charge.cr_text is 'Text tokens read from a cache.';
comment on column turnpike.charge.cr_audio is 'Audio tokens read from a cache.';
comment on column turnpike.charge.cr_image is 'Image tokens read from a cache.';
comment on column turnpike.charge.cw_5m is 'Tokens written to a short-lived cache.';
comment on column turnpike.charge.cw_1h is 'Tokens written to a one-hour cache.';
comment on column turnpike.charge.out_text is 'Output text tokens.';
comment on column turnpike.charge.out_reasoning is 'Output tokens spent on reasoning.';
comment on column turnpike.charge.out_audio is 'Output audio tokens.';
comment on column turnpike.charge.out_image is 'Output image tokens.';
comment on column turnpike.charge.started_at is 'When the request''s head came. The price in force then is its price.';
comment on column turnpike.charge.settled_at is 'When it was settled.';
comment on column turnpike.charge.head_after_ms is 'From started_at to the answer''s head, milliseconds.';
comment on column turnpike.charge.first_byte_after_ms is 'From started_at to the first byte of the answer''s body, milliseconds.';
comment on column turnpike.charge.ended_after_ms is 'From started_at to the answer''s end, milliseconds.';
comment on column turnpike.charge.flags is 'Anomalies of the provider''s figures that reading survived: bits of tariff::Flag.';
comment on column turnpike.charge.status is 'The HTTP status the client saw.';
comment on column turnpike.charge.stream is 'Whether the answer was a stream of events.';
comment on column turnpike.charge.mark is 'How the figure came about: measured, provider_cost, estimated, bounded, interrupted.';
comment on column turnpike.charge.ending is 'How the exchange ended: complete, failed (the upstream broke off), abandoned (the client left).';
comment on column turnpike.charge.endpoint is 'The endpoint by short name: chat/completions.';
comment on column turnpike.charge.model_requested is 'The model the client named.';
comment on column turnpike.charge.model_answered is 'The model the answer named.';
comment on column turnpike.charge.service_tier is 'The tier that served, as the answer says it.';
comment on column turnpike.charge.response_id is 'The provider''s id of the answer.';
comment on column turnpike.charge.usage_raw is 'The provider''s own usage object, unchanged. A JSON string where it was no JSON.';

create trigger charge_append_only before update or delete on turnpike.charge
  for each row execute function turnpike.refuse_change('charge');
create trigger charge_not_truncated before truncate on turnpike.charge
  for each statement execute function turnpike.refuse_change('charge');

create table turnpike.charge_default partition of turnpike.charge default;
comment on table turnpike.charge_default is 'Charges of months that have no partition. Empty, unless ensure_charge_partitions() was not called for long.';

create function turnpike.first_id(at timestamptz) returns uuid
language sql immutable parallel safe as $$
  select (lpad(to_hex(floor(extract(epoch from at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;

comment on function turnpike.first_id(timestamptz) is
  'The smallest UUIDv7 of an instant: where id >= turnpike.first_id(''2026-11-01Z'') reads only the partitions it needs.';

-- Runs as its owner, since the gateway owns no table. Attaches rather than "partition of", which would lock out settlements.
create function turnpike.ensure_charge_partitions(months_ahead integer default 2) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  this_month constant timestamp := date_trunc('month', now() at time zone 'UTC');
  month timestamp;
  name text;
  low uuid;
  high uuid;
  made integer := 0;
begin
  perform pg_advisory_xact_lock(hashtextextended('turnpike.ensure_charge_partitions', 0));
  for i in 0 .. least(greatest(coalesce(ensure_charge_partitions.months_ahead, 0), 0), 120) loop
    month := this_month + make_interval(months => i);
    name := 'charge_' || to_char(month, 'YYYY_MM');
    continue when to_regclass(format('turnpike.%I', name)) is not null;
    low := turnpike.first_id(month at time zone 'UTC');
    high := turnpike.first_id((month + interval '1 month') at time zone 'UTC');
    if exists (select from turnpike.charge_default where id >= low and id < high) then
      raise warning 'charges of % stand in turnpike.charge_default, so the month gets no partition of its own', to_char(month, 'YYYY-MM');
      continue;
    end if;
    execute format('create table turnpike.%I (like turnpike.charge including defaults including constraints)', name);
    execute format('comment on table turnpike.%I is %L', name, 'Charges of ' || to_char(month, 'YYYY-MM') || ' (UTC).');
    execute format('alter table turnpike.charge attach partition turnpike.%I for values from (%L) to (%L)', name, low, high);
    made := made + 1;
  end loop;
  return made;
end $$;

comment on function turnpike.ensure_charge_partitions(integer) is
  'Makes the partitions of this month and of so many to come; returns how many were missing. Gateways call it at start and daily.';

select turnpike.ensure_charge_partitions();
