-- Upstreams that take their key in another header and have other paths: Azure OpenAI (api-key, deployments) and Anthropic
-- (x-api-key). Safe: the older version loads upstreams of the dialect openai alone, and none of another could exist.

alter table turnpike.upstream
  drop constraint upstream_dialect_known,
  add constraint upstream_dialect_known check (dialect in ('openai', 'azure', 'anthropic'));

comment on column turnpike.upstream.dialect is 'How it is spoken to: openai, azure (base_url https://NAME.openai.azure.com/openai), anthropic (https://api.anthropic.com/v1).';

create or replace function turnpike.set_upstream(
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
  if coalesce(set_upstream.dialect not in ('openai', 'azure', 'anthropic'), true) then
    raise exception 'there is no dialect %', coalesce(quote_literal(set_upstream.dialect), 'null') using errcode = 'invalid_parameter_value', hint = 'openai, azure or anthropic.';
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
