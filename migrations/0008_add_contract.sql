-- The contract for people: what an operator does, in USD, with errors that say what to do. Everything here can be done by
-- plain SQL on the tables too. Safe: adds functions.

create function turnpike.account_id(name text) returns bigint
language plpgsql stable as $$
declare
  found_id bigint;
begin
  select a.id into found_id from turnpike.account as a where a.name = account_id.name;
  if found_id is null then
    raise exception 'there is no account %', coalesce(quote_ident(account_id.name), 'null')
      using errcode = 'no_data_found', hint = format('Create it first: select turnpike.create_account(%L);', coalesce(account_id.name, 'name'));
  end if;
  return found_id;
end $$;

comment on function turnpike.account_id(text) is 'The account of this name; an error with a hint when there is none.';

create function turnpike.create_account(name text, credit_limit_usd numeric default 0) returns bigint
language plpgsql as $$
declare
  new_id bigint;
begin
  if create_account.credit_limit_usd < 0 then
    raise exception 'the credit limit is negative' using errcode = 'invalid_parameter_value', hint = 'Null means no limit, 0 means prepaid.';
  end if;
  insert into turnpike.account (name, credit_limit)
  values (create_account.name, turnpike.nano(create_account.credit_limit_usd, 'the credit limit'))
  returning id into new_id;
  return new_id;
end $$;

comment on function turnpike.create_account(text, numeric) is
  'Makes an account; returns its id. credit_limit_usd: how far below zero it may go; 0 (the default) is prepaid, null has no limit.';

create function turnpike.set_credit_limit(account text, usd numeric) returns void
language plpgsql as $$
declare
  target constant bigint := turnpike.account_id(set_credit_limit.account);
begin
  if set_credit_limit.usd < 0 then
    raise exception 'the credit limit is negative' using errcode = 'invalid_parameter_value', hint = 'Null means no limit, 0 means prepaid.';
  end if;
  update turnpike.account set credit_limit = turnpike.nano(set_credit_limit.usd, 'the credit limit') where id = target;
end $$;

comment on function turnpike.set_credit_limit(text, numeric) is 'How far below zero the account may go, USD; null has no limit.';

create function turnpike.top_up(account text, usd numeric, note text default '') returns numeric
language plpgsql as $$
declare
  target constant bigint := turnpike.account_id(top_up.account);
  amount constant bigint := turnpike.nano(top_up.usd, 'the credit');
begin
  if amount is null or amount = 0 then
    raise exception 'a credit must not be zero' using errcode = 'invalid_parameter_value';
  end if;
  insert into turnpike.credit (account_id, amount, note) values (target, amount, coalesce(top_up.note, ''));
  return (select turnpike.usd(a.balance) from turnpike.account as a where a.id = target);
end $$;

comment on function turnpike.top_up(text, numeric, text) is
  'Credits an account; returns its new balance in USD. A negative amount corrects an earlier credit or charge. It makes no account: a typing error must not become one.';

create function turnpike.new_secret() returns text
language sql volatile as $$
  -- Three UUIDs hold 366 random bits of the server''s strong generator; their digest spreads 256 of them evenly.
  select 'tp-' || encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex')
$$;

comment on function turnpike.new_secret() is 'A new secret for an access token: tp- and 64 hexadecimal digits.';

create function turnpike.issue_token(
  account text,
  budget_usd numeric default null,
  expires timestamptz default null,
  models text[] default null,
  requests_per_minute integer default null,
  concurrent_exchanges integer default null,
  endpoints text[] default null,
  addresses cidr[] default null,
  label text default null,
  upstream_key text default null
) returns table (token text, prefix text, token_id bigint)
language plpgsql as $$
#variable_conflict use_column
declare
  target constant bigint := turnpike.account_id(issue_token.account);
  secret constant text := turnpike.new_secret();
  shown constant text := left(secret, 11);
  new_id bigint;
begin
  if issue_token.budget_usd < 0 then
    raise exception 'the budget is negative' using errcode = 'invalid_parameter_value';
  end if;
  if issue_token.expires <= now() then
    raise exception 'the token would have expired already (%)', issue_token.expires
      using errcode = 'invalid_parameter_value', hint = 'Leave "expires" out for a token that does not expire.';
  end if;
  if issue_token.models is not null and not turnpike.are_patterns(issue_token.models) then
    raise exception 'the list of models is empty or names something that is no pattern'
      using errcode = 'invalid_parameter_value', hint = 'Leave "models" out to allow all; a pattern is a name or a beginning with one * at the end: {gpt-4o*,o3}.';
  end if;
  if issue_token.endpoints is not null and not turnpike.are_words(issue_token.endpoints) then
    raise exception 'the list of endpoints is empty or has an empty element'
      using errcode = 'invalid_parameter_value', hint = 'Leave "endpoints" out to allow all: {chat/completions,embeddings}.';
  end if;
  if cardinality(issue_token.addresses) = 0 then
    raise exception 'the list of addresses is empty'
      using errcode = 'invalid_parameter_value', hint = 'Leave "addresses" out to allow all: {10.0.0.0/8}.';
  end if;
  if issue_token.requests_per_minute <= 0 or issue_token.concurrent_exchanges <= 0 then
    raise exception 'a limit must be at least 1' using errcode = 'invalid_parameter_value', hint = 'Leave it out for no limit.';
  end if;
  insert into turnpike.access_token (
    account_id, sha256, prefix, label, budget, expires_at, models, endpoints, addresses, requests_per_minute, concurrent_exchanges, upstream_key
  ) values (
    target, sha256(convert_to(secret, 'UTF8')), shown, issue_token.label, turnpike.nano(issue_token.budget_usd, 'the budget'),
    issue_token.expires, issue_token.models, issue_token.endpoints, issue_token.addresses, issue_token.requests_per_minute,
    issue_token.concurrent_exchanges, issue_token.upstream_key
  ) returning id into new_id;
  return query select secret, shown, new_id;
end $$;

comment on function turnpike.issue_token(text, numeric, timestamptz, text[], integer, integer, text[], cidr[], text, text) is
  'Makes an access token for an account that exists. The token is shown this once; only its digest is kept. What is left out sets no limit.';

-- Runs as its owner: operators name tokens but read no digests.
create function turnpike.find_token(token text) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  -- What people copy from a list may end in an ellipsis.
  beginning constant text := regexp_replace(btrim(find_token.token), '(…|\.\.\.|\*)$', '');
  ids bigint[];
  names text;
begin
  select array_agg(t.id) into ids from turnpike.access_token as t where t.sha256 = sha256(convert_to(btrim(find_token.token), 'UTF8'));
  if ids is not null then
    return ids[1];
  end if;
  if beginning is null or length(beginning) < 5 then
    raise exception 'name the token by at least five characters of its beginning' using errcode = 'invalid_parameter_value';
  end if;
  select array_agg(t.id), string_agg(t.prefix || coalesce(' (' || t.label || ')', ''), ', ')
    into ids, names from turnpike.access_token as t where starts_with(t.prefix, beginning);
  if ids is null then
    raise exception 'no access token begins like this'
      using errcode = 'no_data_found', hint = 'Give the whole token, or its prefix: select prefix, label from turnpike.access_token;';
  end if;
  if cardinality(ids) > 1 then
    raise exception '% access tokens begin like this: %', cardinality(ids), left(names, 200)
      using errcode = 'too_many_rows', hint = 'Give more of the prefix, or the whole token.';
  end if;
  return ids[1];
end $$;

comment on function turnpike.find_token(text) is 'The access token meant by its secret or by the beginning of its prefix; none or several are errors.';

create function turnpike.rotate_token(token text) returns text
language plpgsql as $$
declare
  target constant bigint := turnpike.find_token(rotate_token.token);
  secret constant text := turnpike.new_secret();
begin
  update turnpike.access_token as t
     set sha256 = sha256(convert_to(secret, 'UTF8')), prefix = left(secret, 11), rotated_at = now()
   where t.id = target and t.revoked_at is null;
  if not found then
    raise exception 'the access token is revoked' using errcode = 'object_not_in_prerequisite_state', hint = 'Issue a new one: turnpike.issue_token().';
  end if;
  return secret;
end $$;

comment on function turnpike.rotate_token(text) is
  'Gives a token, named by its secret or prefix, a new secret; limits and what it has spent stay. The old secret is refused at once.';

create function turnpike.revoke_token(token text) returns text
language plpgsql as $$
declare
  target constant bigint := turnpike.find_token(revoke_token.token);
begin
  update turnpike.access_token as t set revoked_at = now() where t.id = target and t.revoked_at is null;
  return (select t.prefix from turnpike.access_token as t where t.id = target);
end $$;

comment on function turnpike.revoke_token(text) is
  'Revokes a token, named by its secret or prefix, for good; returns the prefix. Revoking again changes nothing.';

create function turnpike.set_price(
  model text,
  input numeric default null,
  cached_input numeric default null,
  output numeric default null,
  cache_write numeric default null,
  cache_write_1h numeric default null,
  reasoning numeric default null,
  input_audio numeric default null,
  input_image numeric default null,
  cached_input_audio numeric default null,
  cached_input_image numeric default null,
  output_audio numeric default null,
  output_image numeric default null,
  tier text default 'default',
  min_context bigint default 0,
  context_inclusive boolean default false,
  context_window bigint default null,
  output_max bigint default null,
  disconnect text default null,
  valid_from timestamptz default null,
  source text default null
) returns bigint
language plpgsql as $$
#variable_conflict use_column
declare
  -- Prices are looked up by the millisecond.
  begins constant timestamptz := date_trunc('milliseconds', coalesce(set_price.valid_from, clock_timestamp()));
  wanted turnpike.price;
  current turnpike.price;
  next_begins timestamptz;
  new_id bigint;
begin
  if not turnpike.is_pattern(set_price.model) then
    raise exception 'the model is no name and no beginning with one * at the end' using errcode = 'invalid_parameter_value';
  end if;
  if least(input, cached_input, output, cache_write, cache_write_1h, reasoning, input_audio, input_image,
           cached_input_audio, cached_input_image, output_audio, output_image) < 0 then
    raise exception 'the price of % is negative', set_price.model using errcode = 'invalid_parameter_value';
  end if;
  if num_nonnulls(input, cached_input, output, cache_write, cache_write_1h, reasoning, input_audio, input_image,
                  cached_input_audio, cached_input_image, output_audio, output_image) = 0 then
    raise exception 'the price of % has no figures', set_price.model
      using errcode = 'invalid_parameter_value', hint = 'USD per 1,000,000 tokens: turnpike.set_price(''gpt-4o'', input => 2.50, output => 10).';
  end if;
  if set_price.tier is null or set_price.tier !~ '^[a-z0-9_-]+$' or set_price.tier in ('auto', 'standard', 'scale', 'fast') then
    raise exception '% is no tier with a price of its own', coalesce(quote_literal(set_price.tier), 'null')
      using errcode = 'invalid_parameter_value', hint = 'default, flex, priority (which is also called fast), ultrafast or batch.';
  end if;
  if set_price.disconnect not in ('drain', 'estimate', 'void') then
    raise exception 'disconnect is none of drain, estimate, void' using errcode = 'invalid_parameter_value', hint = 'Leave it out for what the gateway''s setting DISCONNECT says.';
  end if;
  if set_price.min_context < 0 or set_price.context_window <= 0 or set_price.output_max <= 0 then
    raise exception 'a number of tokens must be positive' using errcode = 'invalid_parameter_value';
  end if;
  if not isfinite(begins) then
    raise exception 'valid_from must be an instant' using errcode = 'invalid_parameter_value';
  end if;

  -- The lock of guard_price(), taken before the version in force is read.
  perform pg_advisory_xact_lock(hashtextextended('turnpike.price', 0));

  wanted.in_text := turnpike.nano(input, 'the price of input');
  wanted.in_audio := turnpike.nano(input_audio, 'the price of audio input');
  wanted.in_image := turnpike.nano(input_image, 'the price of image input');
  wanted.cr_text := turnpike.nano(cached_input, 'the price of cached input');
  wanted.cr_audio := turnpike.nano(cached_input_audio, 'the price of cached audio input');
  wanted.cr_image := turnpike.nano(cached_input_image, 'the price of cached image input');
  wanted.cw_5m := turnpike.nano(cache_write, 'the price of cache writes');
  wanted.cw_1h := turnpike.nano(cache_write_1h, 'the price of one-hour cache writes');
  wanted.out_text := turnpike.nano(output, 'the price of output');
  wanted.out_reasoning := turnpike.nano(reasoning, 'the price of reasoning');
  wanted.out_audio := turnpike.nano(output_audio, 'the price of audio output');
  wanted.out_image := turnpike.nano(output_image, 'the price of image output');
  wanted.context_window := set_price.context_window;
  wanted.output_max := set_price.output_max;
  wanted.context_inclusive := coalesce(set_price.context_inclusive, false);
  wanted.disconnect := set_price.disconnect;
  wanted.source := set_price.source;
  wanted.pattern := set_price.model;
  wanted.tier := set_price.tier;
  wanted.min_context := coalesce(set_price.min_context, 0);

  select p.* into current from turnpike.price as p
   where (p.pattern, p.tier, p.min_context) = (wanted.pattern, wanted.tier, wanted.min_context)
     and p.valid_from <= begins and begins < coalesce(p.valid_to, 'infinity');
  if found then
    -- Facts about the model, not prices: they stay until somebody knows better.
    wanted.context_window := coalesce(wanted.context_window, current.context_window);
    wanted.output_max := coalesce(wanted.output_max, current.output_max);
    if to_jsonb(current) - '{id,valid_from,valid_to}'::text[] = to_jsonb(wanted) - '{id,valid_from,valid_to}'::text[] then
      return current.id;
    end if;
    if begins < date_trunc('milliseconds', now()) then
      raise exception 'a price cannot be superseded in the past (%)', begins
        using errcode = 'invalid_parameter_value', hint = 'Charges made since then keep the price they were made at. Leave "valid_from" out for now.';
    end if;
    update turnpike.price as p set valid_to = begins where p.id = current.id;
  end if;
  select min(p.valid_from) into next_begins from turnpike.price as p
   where (p.pattern, p.tier, p.min_context) = (wanted.pattern, wanted.tier, wanted.min_context)
     and p.valid_from > begins and p.valid_from < coalesce(p.valid_to, 'infinity');

  insert into turnpike.price (
    pattern, tier, min_context, context_inclusive, valid_from, valid_to, in_text, in_audio, in_image, cr_text, cr_audio, cr_image,
    cw_5m, cw_1h, out_text, out_reasoning, out_audio, out_image, context_window, output_max, disconnect, source
  ) values (
    wanted.pattern, wanted.tier, wanted.min_context, wanted.context_inclusive, begins, next_begins, wanted.in_text, wanted.in_audio,
    wanted.in_image, wanted.cr_text, wanted.cr_audio, wanted.cr_image, wanted.cw_5m, wanted.cw_1h, wanted.out_text, wanted.out_reasoning,
    wanted.out_audio, wanted.out_image, wanted.context_window, wanted.output_max, wanted.disconnect, wanted.source
  ) returning id into new_id;
  return new_id;
end $$;

comment on function turnpike.set_price(text, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, text, bigint, boolean, bigint, bigint, text, timestamptz, text) is
  'A new version of a model''s price, USD per 1,000,000 tokens, from now or from valid_from; the version in force is closed. context_window and output_max are facts about the model: left out, they stay as in the version in force of the same model, tier and min_context. Returns its id; setting what stands already changes nothing and returns that version''s. A scheduled version stays.';

-- Runs as its owner: operators set keys but read none.
create function turnpike.replace_upstream_keys(upstream_id bigint, key text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  delete from turnpike.upstream_key as k where k.upstream_id = replace_upstream_keys.upstream_id and k.secret <> replace_upstream_keys.key;
  insert into turnpike.upstream_key (upstream_id, secret) values (replace_upstream_keys.upstream_id, replace_upstream_keys.key)
  on conflict on constraint upstream_key_secret_unique do nothing;
end $$;

comment on function turnpike.replace_upstream_keys(bigint, text) is
  'Makes this (env:NAME, file:PATH or the key itself) the only key of an upstream. If it is one already, its row stays.';

create function turnpike.set_upstream(
  name text,
  base_url text,
  key text default null,
  proxy text default null,
  priority integer default 0,
  enabled boolean default true,
  dialect text default 'openai'
) returns bigint
language plpgsql as $$
#variable_conflict use_column
declare
  url constant text := rtrim(btrim(set_upstream.base_url), '/');
  target bigint;
begin
  if url is null or url !~ '^https?://[^/?#@[:space:][:cntrl:]]+(/[^?#[:space:][:cntrl:]]*)?$' then
    raise exception 'the base URL is not of the form https://host/path'
      using errcode = 'invalid_parameter_value', hint = 'No credentials, query or fragment: https://api.openai.com/v1.';
  end if;
  if set_upstream.proxy !~ '^(https?|socks5h?)://[^/?#[:space:][:cntrl:]]+/?$' then
    raise exception 'the proxy is neither http:// nor socks5://' using errcode = 'invalid_parameter_value', hint = 'http://user:password@host:port or socks5://host:port.';
  end if;
  if set_upstream.dialect is distinct from 'openai' then
    raise exception 'there is no dialect %', coalesce(quote_literal(set_upstream.dialect), 'null') using errcode = 'invalid_parameter_value', hint = 'openai';
  end if;
  insert into turnpike.upstream as u (name, base_url, proxy, priority, enabled, dialect)
  values (set_upstream.name, url, set_upstream.proxy, coalesce(set_upstream.priority, 0), coalesce(set_upstream.enabled, true), set_upstream.dialect)
  on conflict on constraint upstream_name_unique do update
    set base_url = excluded.base_url, proxy = excluded.proxy, priority = excluded.priority, enabled = excluded.enabled, dialect = excluded.dialect
  returning u.id into target;
  if set_upstream.key is not null then
    perform turnpike.replace_upstream_keys(target, set_upstream.key);
  end if;
  return target;
end $$;

comment on function turnpike.set_upstream(text, text, text, text, integer, boolean, text) is
  'Makes or changes an upstream. key (env:NAME, file:PATH or the key itself) becomes its only key; left out, it keeps the keys it has. More keys: insert into turnpike.upstream_key. Everything else is set as given or to its default.';

create function turnpike.set_route(model text, upstream text, priority integer default 0) returns bigint
language plpgsql as $$
#variable_conflict use_column
declare
  target bigint;
  route_id bigint;
begin
  if not turnpike.is_pattern(set_route.model) then
    raise exception 'the model is no name and no beginning with one * at the end' using errcode = 'invalid_parameter_value';
  end if;
  select u.id into target from turnpike.upstream as u where u.name = set_route.upstream;
  if target is null then
    raise exception 'there is no upstream %', coalesce(quote_ident(set_route.upstream), 'null')
      using errcode = 'no_data_found', hint = 'Make it first: select turnpike.set_upstream(name, base_url, key => ''env:NAME'');';
  end if;
  insert into turnpike.route as r (pattern, upstream_id, priority)
  values (set_route.model, target, coalesce(set_route.priority, 0))
  on conflict on constraint route_unique do update set priority = excluded.priority
  returning r.id into route_id;
  return route_id;
end $$;

comment on function turnpike.set_route(text, text, integer) is
  'Sends a model, or all that begin so (gpt-4o*), to an upstream, under its own name: bodies pass unchanged. Undo it: delete from turnpike.route.';

-- Runs as its owner: nobody else may delete holds or move counters. For the holds of a gateway that died.
create function turnpike.release_hold(exchange uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  lost turnpike.hold;
begin
  select h.* into lost from turnpike.hold as h where h.exchange_id = release_hold.exchange;
  perform from turnpike.account as x where x.id = lost.account_id for no key update;
  perform from turnpike.access_token_counter as x where x.token_id = lost.token_id for no key update;
  delete from turnpike.hold as h where h.exchange_id = release_hold.exchange;
  if not found then
    return false;
  end if;
  update turnpike.account as x set held = x.held - lost.amount where x.id = lost.account_id;
  update turnpike.access_token_counter as x set held = x.held - lost.amount where x.token_id = lost.token_id;
  return true;
end $$;

comment on function turnpike.release_hold(uuid) is
  'Gives a hold back that nobody will settle any more (view open_holds: the gateway is gone). A gateway that does settle it later still charges.';
