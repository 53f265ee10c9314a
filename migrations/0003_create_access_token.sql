-- What clients show. Settings and counters stand in two tables: settings change rarely and tell every replica by NOTIFY,
-- counters change with every exchange and tell nobody. Safe: adds tables.

create table turnpike.access_token (
  id                   bigint generated always as identity,
  account_id           bigint not null,
  budget               bigint,
  created_at           timestamptz not null default now(),
  expires_at           timestamptz,
  revoked_at           timestamptz,
  rotated_at           timestamptz,
  requests_per_minute  integer,
  concurrent_exchanges integer,
  sha256               bytea not null,
  prefix               text not null,
  label                text,
  models               text[],
  endpoints            text[],
  addresses            cidr[],
  upstream_key         text,
  constraint access_token_identified primary key (id),
  constraint access_token_of_account foreign key (account_id) references turnpike.account (id),
  constraint access_token_account_unique unique (id, account_id),
  constraint access_token_sha256_unique unique (sha256),
  constraint access_token_sha256_is_digest check (octet_length(sha256) = 32),
  constraint access_token_prefix_printable check (prefix ~ '^[^[:space:][:cntrl:]]{4,16}$'),
  constraint access_token_label_printable check (label ~ '^[^[:cntrl:]]*$' and length(label) <= 200),
  constraint access_token_budget_not_negative check (budget >= 0),
  constraint access_token_models_are_patterns check (models is null or turnpike.are_patterns(models)),
  constraint access_token_endpoints_are_words check (endpoints is null or turnpike.are_words(endpoints)),
  constraint access_token_addresses_not_empty
    check (addresses is null or (cardinality(addresses) > 0 and array_position(addresses, null) is null)),
  constraint access_token_requests_per_minute_positive check (requests_per_minute > 0),
  constraint access_token_concurrent_exchanges_positive check (concurrent_exchanges > 0),
  constraint access_token_upstream_key_not_empty check (upstream_key ~ '^[^[:space:][:cntrl:]]+$')
);
create index access_token_by_account on turnpike.access_token (account_id);
create index access_token_by_prefix on turnpike.access_token (prefix text_pattern_ops);

comment on table turnpike.access_token is 'What a client shows, and what it may do with it. Only the digest of the secret is kept.';
comment on column turnpike.access_token.id is 'The access token; not its secret.';
comment on column turnpike.access_token.account_id is 'Who pays.';
comment on column turnpike.access_token.budget is 'The most it may spend in its life, holds included, nano-USD. Null: no limit of its own.';
comment on column turnpike.access_token.created_at is 'When it was issued.';
comment on column turnpike.access_token.expires_at is 'Not valid from this instant. Null: valid until revoked.';
comment on column turnpike.access_token.revoked_at is 'Not valid since this instant. Null: not revoked.';
comment on column turnpike.access_token.rotated_at is 'When it last got a new secret.';
comment on column turnpike.access_token.requests_per_minute is 'Requests in any minute. Null: no limit.';
comment on column turnpike.access_token.concurrent_exchanges is 'Exchanges open at once. Null: no limit.';
comment on column turnpike.access_token.sha256 is 'SHA-256 of the secret as UTF-8. Readable by the gateway alone.';
comment on column turnpike.access_token.prefix is 'The beginning of the secret, to tell tokens apart.';
comment on column turnpike.access_token.label is 'What its owner calls it.';
comment on column turnpike.access_token.models is 'Model patterns (gpt-4o, gpt-4o*). Null: all.';
comment on column turnpike.access_token.endpoints is 'Endpoints by short name (chat/completions). Null: all.';
comment on column turnpike.access_token.addresses is 'Networks it may be used from. Null: all.';
comment on column turnpike.access_token.upstream_key is 'Sent upstream instead of the upstream''s own key: the key itself, env:NAME or file:PATH. Readable by the gateway alone.';

create table turnpike.access_token_counter (
  token_id bigint not null,
  spent    bigint not null default 0,
  held     bigint not null default 0,
  constraint access_token_counter_identified primary key (token_id),
  constraint access_token_counter_of_token foreign key (token_id) references turnpike.access_token (id) on delete cascade,
  constraint access_token_counter_spent_not_negative check (spent >= 0),
  constraint access_token_counter_held_not_negative check (held >= 0)
) with (fillfactor = 50);

comment on table turnpike.access_token_counter is 'What an access token has spent: one narrow row each, made with the token.';
comment on column turnpike.access_token_counter.token_id is 'The access token.';
comment on column turnpike.access_token_counter.spent is 'Sum of its charges, nano-USD. Kept by settle_exchanges(); view audit checks it.';
comment on column turnpike.access_token_counter.held is 'Sum of its open holds, nano-USD. Kept by take_holds() and settle_exchanges(); view audit checks it.';

-- Runs as its owner: operators issue tokens but do not touch counters.
create function turnpike.add_counter() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into turnpike.access_token_counter (token_id) values (new.id);
  return null;
end $$;

comment on function turnpike.add_counter() is 'Trigger on access_token: makes the counter row.';

create trigger access_token_counted after insert on turnpike.access_token
  for each row execute function turnpike.add_counter();
