-- Every edit reaches every running gateway: triggers tell channel "turnpike" what to read again, whoever edits. Payloads:
-- token:<id>, tokens (all of them), catalog. Counters tell nobody: they change with every exchange, and NOTIFY serialises
-- commits. Safe: adds triggers.

create function turnpike.tell_token() returns trigger
language plpgsql as $$
begin
  if tg_op = 'TRUNCATE' then
    perform pg_notify('turnpike', 'tokens');
  elsif tg_op = 'DELETE' then
    perform pg_notify('turnpike', 'token:' || old.id);
  else
    perform pg_notify('turnpike', 'token:' || new.id);
  end if;
  return null;
end $$;

comment on function turnpike.tell_token() is 'Trigger on access_token: tells every gateway which token to look up again.';

create function turnpike.tell_catalog() returns trigger
language plpgsql as $$
begin
  perform pg_notify('turnpike', 'catalog');
  return null;
end $$;

comment on function turnpike.tell_catalog() is 'Trigger on prices, upstreams, their keys and routes: tells every gateway to load them again.';

create trigger access_token_told after insert or update or delete on turnpike.access_token
  for each row execute function turnpike.tell_token();
create trigger access_token_told_truncate after truncate on turnpike.access_token
  for each statement execute function turnpike.tell_token();
create trigger upstream_told after insert or update or delete or truncate on turnpike.upstream
  for each statement execute function turnpike.tell_catalog();
create trigger upstream_key_told after insert or update or delete or truncate on turnpike.upstream_key
  for each statement execute function turnpike.tell_catalog();
create trigger route_told after insert or update or delete or truncate on turnpike.route
  for each statement execute function turnpike.tell_catalog();
create trigger price_told after insert or update or delete on turnpike.price
  for each statement execute function turnpike.tell_catalog();
