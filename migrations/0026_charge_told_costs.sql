-- What a provider says an answer cost may be what is charged, by upstream (OpenRouter, xAI and Perplexity tell it); and a search may
-- cost by the size of its context. set_upstream() is made anew with more arguments, each optional, so that what calls it goes on.
-- Safe: the older version reads neither column and goes on charging by price; it knows no tool of the new names and passes them over.

alter table turnpike.upstream
  add column cost          text    not null default 'price',
  add column cost_permille integer not null default 1000,
  add constraint upstream_cost_known check (cost in ('price', 'provider')),
  add constraint upstream_cost_permille_sane check (cost_permille between 1 and 100000);

comment on column turnpike.upstream.cost is 'Whose figure is charged: price (ours: usage at the model''s price), or provider (the cost that the answer tells, marked provider_cost and never above the hold; by price where it tells none).';
comment on column turnpike.upstream.cost_permille is 'With cost = provider: what is charged for each 1,000 of that cost. 1000 is the figure as it stands, 1200 a fifth more.';

alter table turnpike.price
  drop constraint price_tools_known,
  add constraint price_tools_known
    check (tools - '{web_search,web_search_low,web_search_high,web_search_preview,x_search,file_search,container,maps}'::text[] = '{}');

comment on column turnpike.price.tools is 'A call of a paid tool, by its name: web_search (of medium context size, and of any that has no fee of its own), web_search_low, web_search_high, web_search_preview, x_search, file_search, container, maps.';

drop function turnpike.set_upstream(text, text, text, text, integer, boolean, text);

create function turnpike.set_upstream(
  name text,
  base_url text,
  key text default null,
  proxy text default null,
  priority integer default 0,
  enabled boolean default true,
  dialect text default 'openai',
  cost text default 'price',
  cost_permille integer default 1000
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
  if coalesce(set_upstream.dialect not in ('openai', 'azure', 'anthropic'), true) then
    raise exception 'there is no dialect %', coalesce(quote_literal(set_upstream.dialect), 'null') using errcode = 'invalid_parameter_value', hint = 'openai, azure or anthropic.';
  end if;
  if coalesce(set_upstream.cost not in ('price', 'provider'), true) then
    raise exception 'cost is %', coalesce(quote_literal(set_upstream.cost), 'null')
      using errcode = 'invalid_parameter_value', hint = 'price (usage at the model''s price) or provider (the cost that the answer tells).';
  end if;
  if coalesce(set_upstream.cost_permille not between 1 and 100000, true) then
    raise exception 'cost_permille is %', coalesce(set_upstream.cost_permille::text, 'null')
      using errcode = 'invalid_parameter_value', hint = 'From 1 to 100000; 1000 charges the provider''s figure as it stands.';
  end if;
  insert into turnpike.upstream as u (name, base_url, proxy, priority, enabled, dialect, cost, cost_permille)
  values (set_upstream.name, url, set_upstream.proxy, coalesce(set_upstream.priority, 0), coalesce(set_upstream.enabled, true), set_upstream.dialect,
          set_upstream.cost, set_upstream.cost_permille)
  on conflict on constraint upstream_name_unique do update
    set base_url = excluded.base_url, proxy = excluded.proxy, priority = excluded.priority, enabled = excluded.enabled, dialect = excluded.dialect,
        cost = excluded.cost, cost_permille = excluded.cost_permille
  returning u.id into target;
  if set_upstream.key is not null then
    perform turnpike.replace_upstream_keys(target, set_upstream.key);
  end if;
  return target;
end $$;

comment on function turnpike.set_upstream(text, text, text, text, integer, boolean, text, text, integer) is
  'Makes or changes an upstream. key (env:NAME, file:PATH or the key itself) becomes its only key; left out, it keeps the keys it has. More keys: insert into turnpike.upstream_key. cost => ''provider'' charges what the provider says an answer cost, times cost_permille / 1000. Everything else is set as given or to its default.';

revoke all on function turnpike.set_upstream from public;
select turnpike.grant_roles();
