-- Whose what providers keep is: responses, files and their like stand in the provider's account, which all customers share, so only
-- this says who may read them, and at which upstream with which key they are. Safe: adds a table; the older version knows none.

create table turnpike.object (
  id              text not null,
  upstream_id     bigint not null default 0,
  upstream_key_id bigint,
  account_id      bigint not null,
  token_id        bigint not null,
  created_at      timestamptz not null default now(),
  expires_at      timestamptz,
  kind            text not null,
  model           text,
  parent          text,
  facts           jsonb,
  constraint object_identified primary key (id, upstream_id),
  constraint object_of_token foreign key (token_id, account_id) references turnpike.access_token (id, account_id),
  constraint object_id_printable check (id ~ '^[!-~]+$' and length(id) <= 256),
  constraint object_kind_printable check (kind ~ '^[!-~]+$' and length(kind) <= 64)
);
create index object_by_expiry on turnpike.object (expires_at) where expires_at is not null;
-- Those that can be listed. Answers are many, and never listed.
create index object_by_account on turnpike.object (account_id, kind, created_at) where kind not in ('response', 'chat_completion');

comment on table turnpike.object is 'What providers keep for a customer, and whose it is: ids and no contents. The first who is told an id has it.';
comment on column turnpike.object.id is 'The provider''s id.';
comment on column turnpike.object.upstream_id is 'Who keeps it. 0: the provider that the settings name. Not a foreign key: upstreams may be deleted.';
comment on column turnpike.object.upstream_key_id is 'The key it was made with: it is in that key''s account. Not a foreign key.';
comment on column turnpike.object.account_id is 'Whose it is: any access token of the account may read it.';
comment on column turnpike.object.token_id is 'With which access token it was made.';
comment on column turnpike.object.created_at is 'When.';
comment on column turnpike.object.expires_at is 'When the provider forgets it, and so do we. Null: when it is deleted.';
comment on column turnpike.object.kind is 'What it is: response, chat_completion, conversation, file, ...';
comment on column turnpike.object.model is 'The model it was made with.';
comment on column turnpike.object.parent is 'The provider''s id of what it belongs to.';
comment on column turnpike.object.facts is 'What bounds the cost of what is made of it: counts and lengths, never contents.';

create function turnpike.keep_objects(
  ids text[], kinds text[], upstreams bigint[], upstream_keys bigint[], accounts bigint[], tokens bigint[], models text[], parents text[],
  facts text[], kept_seconds bigint[]
) returns bigint
language sql
begin atomic
  with kept as (
    insert into turnpike.object (id, kind, upstream_id, upstream_key_id, account_id, token_id, model, parent, facts, expires_at)
    select o.id, o.kind, coalesce(o.upstream, 0), o.upstream_key, o.account, o.token, o.model, o.parent, o.facts::jsonb,
           now() + o.kept_seconds * interval '1 second'
      from unnest(ids, kinds, upstreams, upstream_keys, accounts, tokens, models, parents, facts, kept_seconds)
           as o (id, kind, upstream, upstream_key, account, token, model, parent, facts, kept_seconds)
     order by o.id
    on conflict on constraint object_identified do nothing
    returning 1
  )
  select count(*) from kept;
end;

comment on function turnpike.keep_objects(text[], text[], bigint[], bigint[], bigint[], bigint[], text[], text[], text[], bigint[]) is
  'Notes whose objects are; returns how many were not known. The first who is told an id has it: repeating changes nothing.';

create function turnpike.grant_objects() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from pg_roles where rolname = 'turnpike_gateway') then
    grant select, insert, delete on turnpike.object to turnpike_gateway;
    grant execute on function turnpike.keep_objects to turnpike_gateway;
  end if;
  if exists (select from pg_roles where rolname = 'turnpike_admin') then
    grant select on turnpike.object to turnpike_admin;
  end if;
end $$;

comment on function turnpike.grant_objects() is 'Part of grant_roles(): what providers keep.';

create or replace function turnpike.grant_roles() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform turnpike.grant_base_roles();
  perform turnpike.grant_front_roles();
  perform turnpike.grant_rates();
  perform turnpike.grant_objects();
end $$;

revoke all on function turnpike.keep_objects, turnpike.grant_objects from public;
select turnpike.grant_objects();
