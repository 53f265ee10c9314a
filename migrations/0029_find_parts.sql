-- Answers have parts that providers keep under ids of their own, and that later requests name: items of a response, containers, recordings.
-- They stand in the facts of the answer's object, so that they go when it goes, and cost no rows. Those of a response that was made in the
-- background are known when it ends, and not when it is noted. Safe: adds an index that no row is in yet; the older version notes no parts.

create index object_by_part on turnpike.object using gin ((facts -> 'parts')) where facts ? 'parts';

create or replace function turnpike.keep_objects(
  ids text[], kinds text[], upstreams bigint[], upstream_keys bigint[], accounts bigint[], tokens bigint[], models text[], parents text[],
  facts text[], kept_seconds bigint[]
) returns bigint
language sql
begin atomic
  with kept as (
    insert into turnpike.object as k (id, kind, upstream_id, upstream_key_id, account_id, token_id, model, parent, facts, expires_at)
    select o.id, o.kind, coalesce(o.upstream, 0), o.upstream_key, o.account, o.token, o.model, o.parent, o.facts::jsonb,
           now() + o.kept_seconds * interval '1 second'
      from unnest(ids, kinds, upstreams, upstream_keys, accounts, tokens, models, parents, facts, kept_seconds)
           as o (id, kind, upstream, upstream_key, account, token, model, parent, facts, kept_seconds)
     order by o.id
    on conflict on constraint object_identified do update set facts = excluded.facts
      where k.facts is null and excluded.facts is not null and k.account_id = excluded.account_id and k.kind = excluded.kind
    returning k.xmax = 0 as is_new
  )
  select count(*) filter (where is_new) from kept;
end;

comment on function turnpike.keep_objects(text[], text[], bigint[], bigint[], bigint[], bigint[], text[], text[], text[], bigint[]) is
  'Notes whose objects are; returns how many were not known. The first who is told an id has it: repeating changes nothing, but that facts are added where there were none.';
comment on column turnpike.object.facts is
  'What bounds the cost of what is made of it, and the ids of its parts: counts, lengths and ids, never contents.';

create or replace function turnpike.grant_objects() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from pg_roles where rolname = 'turnpike_gateway') then
    grant select, insert, delete on turnpike.object to turnpike_gateway;
    grant update (facts) on turnpike.object to turnpike_gateway;
    grant select, insert, update, delete on turnpike.job to turnpike_gateway;
    grant execute on function turnpike.keep_objects, turnpike.park_exchange, turnpike.claim_jobs, turnpike.lock_job, turnpike.end_job to turnpike_gateway;
  end if;
  if exists (select from pg_roles where rolname = 'turnpike_admin') then
    grant select on turnpike.object, turnpike.job, turnpike.open_jobs to turnpike_admin;
  end if;
end $$;

select turnpike.grant_objects();
