-- The roles follow: leases instead of holds for the gateway, the new tables and functions for both. Safe: grants more, and takes
-- from the gateway only what no version that still runs on this schema uses.

revoke all on all functions in schema turnpike from public;
create or replace function turnpike.grant_roles() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  role_name text;
begin
  foreach role_name in array array['turnpike_gateway', 'turnpike_admin'] loop
    if not exists (select from pg_roles where rolname = role_name) then
      begin
        execute format('create role %I nologin', role_name);
      exception
        when duplicate_object or unique_violation then null; -- another database's migration was quicker
        when insufficient_privilege then
          raise notice 'role % could not be made; make it, then: select turnpike.grant_roles();', role_name;
      end;
    end if;
  end loop;

  if exists (select from pg_roles where rolname = 'turnpike_gateway') then
    grant usage on schema turnpike to turnpike_gateway;
    grant select on turnpike.migration, turnpike.identity, turnpike.access_token, turnpike.upstream, turnpike.upstream_key, turnpike.route, turnpike.price
      to turnpike_gateway;
    grant select, update (balance, leased) on turnpike.account to turnpike_gateway;
    grant select, update (spent, prompt, completion, leased, leased_prompt, leased_completion, day, spent_day, prompt_day, completion_day,
      month, spent_month, prompt_month, completion_month) on turnpike.access_token_counter to turnpike_gateway;
    grant select, insert, update (seen_at, stopped_at, buried_at) on turnpike.instance to turnpike_gateway;
    grant select, insert, update, delete on turnpike.lease to turnpike_gateway;
    grant select, insert on turnpike.charge_key to turnpike_gateway;
    grant select, insert, update on turnpike.usage_day to turnpike_gateway;
    grant select, insert, delete on turnpike.hold to turnpike_gateway;
    grant select, insert on turnpike.charge to turnpike_gateway;
    grant execute on function turnpike.lease_purses, turnpike.return_purses, turnpike.settle_exchanges, turnpike.find_dead,
      turnpike.bury_instance, turnpike.ensure_charge_partitions, turnpike.drop_charges, turnpike.first_id
      to turnpike_gateway;
  end if;

  if exists (select from pg_roles where rolname = 'turnpike_admin') then
    grant usage on schema turnpike to turnpike_admin;
    grant select on turnpike.migration, turnpike.identity, turnpike.account, turnpike.credit, turnpike.access_token_counter, turnpike.upstream,
      turnpike.route, turnpike.price, turnpike.instance, turnpike.lease, turnpike.hold, turnpike.charge, turnpike.charge_key,
      turnpike.charge_closed, turnpike.usage_day,
      turnpike.balances, turnpike.usage_daily, turnpike.usage_by_model, turnpike.open_holds, turnpike.estimates, turnpike.audit
      to turnpike_admin;
    -- All but sha256 and upstream_key.
    grant select (id, account_id, budget, created_at, expires_at, revoked_at, rotated_at, requests_per_minute, concurrent_exchanges,
      prefix, label, models, endpoints, addresses, budget_day, budget_month, prompt_tokens, prompt_tokens_day, prompt_tokens_month,
      completion_tokens, completion_tokens_day, completion_tokens_month) on turnpike.access_token to turnpike_admin;
    -- All but secret.
    grant select (id, upstream_id, weight) on turnpike.upstream_key to turnpike_admin;
    grant insert (name, credit_limit), update (name, credit_limit) on turnpike.account to turnpike_admin;
    grant insert (account_id, amount, note) on turnpike.credit to turnpike_admin;
    grant insert, update on turnpike.access_token to turnpike_admin;
    grant insert, update, delete on turnpike.upstream, turnpike.upstream_key, turnpike.route to turnpike_admin;
    grant insert, update (valid_to) on turnpike.price to turnpike_admin;
    grant execute on function turnpike.nano, turnpike.usd, turnpike.is_pattern, turnpike.are_patterns, turnpike.are_words,
      turnpike.account_id, turnpike.create_account, turnpike.set_credit_limit, turnpike.top_up, turnpike.new_secret,
      turnpike.issue_token, turnpike.find_token, turnpike.rotate_token, turnpike.revoke_token, turnpike.set_price,
      turnpike.replace_upstream_keys, turnpike.set_upstream, turnpike.set_route, turnpike.release_hold, turnpike.ensure_charge_partitions, turnpike.drop_charges, turnpike.first_id
      to turnpike_admin;
  end if;
end $$;

comment on function turnpike.grant_roles() is
  'Makes the roles turnpike_gateway and turnpike_admin where allowed and grants them what each needs. Harmless to repeat.';

revoke all on function turnpike.grant_roles() from public;
select turnpike.grant_roles();
