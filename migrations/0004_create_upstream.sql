-- Where requests go, with which key, and which model goes where. Safe: adds tables.

create table turnpike.upstream (
  id       bigint generated always as identity,
  priority integer not null default 0,
  enabled  boolean not null default true,
  name     text not null,
  base_url text not null,
  dialect  text not null default 'openai',
  proxy    text,
  constraint upstream_identified primary key (id),
  constraint upstream_name_unique unique (name),
  constraint upstream_name_is_word check (name ~ '^[^[:space:][:cntrl:]]+$' and length(name) <= 100),
  constraint upstream_base_url_is_url
    check (base_url ~ '^https?://[^/?#@[:space:][:cntrl:]]+(/[^?#[:space:][:cntrl:]]*[^/?#[:space:][:cntrl:]])?$'),
  constraint upstream_dialect_known check (dialect in ('openai')),
  constraint upstream_proxy_is_url check (proxy ~ '^(https?|socks5h?)://[^/?#[:space:][:cntrl:]]+/?$')
);

comment on table turnpike.upstream is 'Where requests may go.';
comment on column turnpike.upstream.id is 'The upstream.';
comment on column turnpike.upstream.priority is 'The smallest is asked first.';
comment on column turnpike.upstream.enabled is 'Whether new requests may go there.';
comment on column turnpike.upstream.name is 'What operators call it; unique.';
comment on column turnpike.upstream.base_url is 'https://host[:port][/path]; the client''s path is put behind it. No slash at the end, no credentials, no query.';
comment on column turnpike.upstream.dialect is 'How it is spoken to: openai.';
comment on column turnpike.upstream.proxy is 'http:// or socks5:// to go through. Null: directly.';

create table turnpike.upstream_key (
  id          bigint generated always as identity,
  upstream_id bigint not null,
  weight      integer not null default 1,
  secret      text not null,
  constraint upstream_key_identified primary key (id),
  constraint upstream_key_of_upstream foreign key (upstream_id) references turnpike.upstream (id) on delete cascade,
  constraint upstream_key_secret_unique unique (upstream_id, secret),
  constraint upstream_key_secret_not_empty check (secret ~ '^[^[:space:][:cntrl:]]+$' and secret not in ('env:', 'file:')),
  constraint upstream_key_weight_positive check (weight > 0)
);

comment on table turnpike.upstream_key is 'The keys of an upstream; each request carries one.';
comment on column turnpike.upstream_key.id is 'The key; not its secret.';
comment on column turnpike.upstream_key.upstream_id is 'Whose.';
comment on column turnpike.upstream_key.weight is 'Its share of the requests among the upstream''s keys.';
comment on column turnpike.upstream_key.secret is 'env:NAME, file:PATH (both read by the gateway), or the key itself. Readable by the gateway alone.';

create table turnpike.route (
  id          bigint generated always as identity,
  upstream_id bigint not null,
  priority    integer not null default 0,
  pattern     text not null,
  constraint route_identified primary key (id),
  constraint route_to_upstream foreign key (upstream_id) references turnpike.upstream (id) on delete cascade,
  constraint route_unique unique (pattern, upstream_id),
  constraint route_pattern_is_pattern check (turnpike.is_pattern(pattern))
);
create index route_by_upstream on turnpike.route (upstream_id);

comment on table turnpike.route is 'Which models go to which upstream: those of the exact name, else of the longest matching beginning; a model without a route goes to any upstream.';
comment on column turnpike.route.id is 'The route.';
comment on column turnpike.route.upstream_id is 'Where to.';
comment on column turnpike.route.priority is 'Among routes of one pattern, the smallest is asked first.';
comment on column turnpike.route.pattern is 'Which models: gpt-4o, gpt-4o*, *.';
