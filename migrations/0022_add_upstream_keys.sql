-- Several keys of an upstream in one call, and routes that go away again, for people who may not read what the keys are. Safe: adds
-- functions; the older version loads the same tables.

create function turnpike.set_upstream_keys(upstream text, keys text[], weights integer[] default null) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  target bigint;
begin
  select u.id into target from turnpike.upstream as u where u.name = set_upstream_keys.upstream for no key update;
  if target is null then
    raise exception 'there is no upstream %', coalesce(quote_ident(set_upstream_keys.upstream), 'null')
      using errcode = 'no_data_found', hint = 'Make it first: select turnpike.set_upstream(name, base_url);';
  end if;
  if set_upstream_keys.keys is null or array_position(set_upstream_keys.keys, null) is not null then
    raise exception 'the keys are not a list of keys' using errcode = 'invalid_parameter_value', hint = 'Such as {env:KEY_A,env:KEY_B}; {} for none.';
  end if;
  if cardinality(set_upstream_keys.keys) <> (select count(distinct k) from unnest(set_upstream_keys.keys) as k) then
    raise exception 'a key is given twice' using errcode = 'invalid_parameter_value', hint = 'Give it once, with a greater weight.';
  end if;
  if cardinality(set_upstream_keys.weights) <> cardinality(set_upstream_keys.keys) then
    raise exception 'there are % keys and % weights', cardinality(set_upstream_keys.keys), cardinality(set_upstream_keys.weights)
      using errcode = 'invalid_parameter_value', hint = 'One weight for each key, in their order; or none, then all share alike.';
  end if;
  delete from turnpike.upstream_key as k where k.upstream_id = target and k.secret <> all (set_upstream_keys.keys);
  insert into turnpike.upstream_key as k (upstream_id, secret, weight)
  select target, g.key, coalesce(g.weight, 1)
    from unnest(set_upstream_keys.keys, set_upstream_keys.weights) as g (key, weight)
  on conflict on constraint upstream_key_secret_unique do update set weight = excluded.weight where k.weight <> excluded.weight;
  return cardinality(set_upstream_keys.keys);
end $$;

comment on function turnpike.set_upstream_keys is
  'Gives an upstream these keys and no others: env:NAME, file:PATH (both read by the gateway), or the key itself. Those that it had already keep their ids. Returns how many.';

create function turnpike.remove_route(model text, upstream text default null) returns integer
language sql as $$
  with gone as (
    delete from turnpike.route as r using turnpike.upstream as u
     where u.id = r.upstream_id and r.pattern = remove_route.model and u.name = coalesce(remove_route.upstream, u.name)
    returning 1
  )
  select count(*)::integer from gone
$$;

comment on function turnpike.remove_route is 'Takes back the routes of a model or pattern: all of them, or the one to an upstream. Returns how many there were.';

revoke all on function turnpike.set_upstream_keys, turnpike.remove_route from public;

alter function turnpike.grant_roles() rename to grant_until_rates;

create function turnpike.grant_roles() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform turnpike.grant_until_rates();
  if exists (select from pg_roles where rolname = 'turnpike_admin') then
    grant execute on function turnpike.set_upstream_keys, turnpike.remove_route to turnpike_admin;
  end if;
end $$;

comment on function turnpike.grant_roles() is
  'Makes the roles turnpike_gateway and turnpike_admin where allowed and grants them what each needs. Harmless to repeat.';
comment on function turnpike.grant_until_rates() is 'Part of grant_roles(): everything up to rates.';

revoke all on function turnpike.grant_roles from public;
select turnpike.grant_roles();
