-- What the front doors keep: dialogs because their callers ask for it, users of resale by name, cooldowns, and the usage an earlier
-- system had booked before it moved. Dialogs go with their token, and after a time of silence; the gateway seals their content where
-- a key is set. Safe: adds tables and functions; the old version uses none of them.

create table turnpike.dialog (
  id         bigint generated always as identity,
  token_id   bigint not null,
  created_at timestamptz not null default now(),
  touched_at timestamptz not null default now(),
  turn_until timestamptz,
  turn       uuid,
  door       text not null,
  name       bytea not null,
  content    bytea,
  constraint dialog_identified primary key (id),
  constraint dialog_of_token foreign key (token_id) references turnpike.access_token (id) on delete cascade,
  constraint dialog_name_unique unique (token_id, door, name),
  constraint dialog_name_is_digest check (octet_length(name) = 32),
  constraint dialog_door_known check (door in ('resale', 'chatbot')),
  constraint dialog_turn_has_end check ((turn is null) = (turn_until is null))
);
create index dialog_by_name on turnpike.dialog (name);
create index dialog_by_age on turnpike.dialog (touched_at);

comment on table turnpike.dialog is 'Conversations that front doors keep for their callers. Gone with their token, and DIALOG_DAYS after their last turn.';
comment on column turnpike.dialog.id is 'The dialog.';
comment on column turnpike.dialog.token_id is 'Whose it is: no other access token reaches it.';
comment on column turnpike.dialog.created_at is 'When it began.';
comment on column turnpike.dialog.touched_at is 'When it was last used.';
comment on column turnpike.dialog.turn_until is 'Until when the turn under way has the dialog, unless it says so again. Null: nobody has it.';
comment on column turnpike.dialog.turn is 'The turn under way. Turns take the dialog one after the other.';
comment on column turnpike.dialog.door is 'Which front door: resale, chatbot.';
comment on column turnpike.dialog.name is 'SHA-256 of the name its caller uses. Readable by the gateway alone.';
comment on column turnpike.dialog.content is 'What was said, sealed if DIALOG_KEY is set. Null: nothing yet. Readable by the gateway alone.';

-- Runs as its owner: who revokes a token has no business in dialogs.
create function turnpike.forget_dialogs() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  delete from turnpike.dialog as d where d.token_id = new.id;
  return null;
end $$;

comment on function turnpike.forget_dialogs() is 'Trigger on access_token: a revoked token''s dialogs go with it.';

create trigger access_token_dialogs_forgotten after update of revoked_at on turnpike.access_token
  for each row when (new.revoked_at is not null) execute function turnpike.forget_dialogs();

create table turnpike.resale_admin (
  token_id bigint not null,
  constraint resale_admin_identified primary key (token_id),
  constraint resale_admin_is_token foreign key (token_id) references turnpike.access_token (id) on delete cascade
);

comment on table turnpike.resale_admin is 'Access tokens that may make users of their account, set their budgets and speak for them at front door resale.';
comment on column turnpike.resale_admin.token_id is 'The access token.';

create table turnpike.resale_user (
  token_id   bigint not null,
  account_id bigint not null,
  name       text not null,
  constraint resale_user_identified primary key (token_id),
  constraint resale_user_is_token foreign key (token_id, account_id) references turnpike.access_token (id, account_id) on delete cascade,
  constraint resale_user_name_unique unique (account_id, name),
  constraint resale_user_name_printable check (name ~ '^[^[:cntrl:]]+$' and length(name) <= 200)
);

comment on table turnpike.resale_user is 'Users of front door resale, each with an access token of his own that holds his budgets.';
comment on column turnpike.resale_user.token_id is 'His access token.';
comment on column turnpike.resale_user.account_id is 'Who pays; names are unique within it.';
comment on column turnpike.resale_user.name is 'What the admin token calls him.';

create table turnpike.chatbot_cooldown (
  token_id bigint not null,
  version  smallint not null,
  until    timestamptz not null,
  constraint chatbot_cooldown_identified primary key (token_id, version),
  constraint chatbot_cooldown_of_token foreign key (token_id) references turnpike.access_token (id) on delete cascade,
  constraint chatbot_cooldown_version_known check (version in (1, 3))
);

comment on table turnpike.chatbot_cooldown is 'When each access token may chat again at front door chatbot.';
comment on column turnpike.chatbot_cooldown.token_id is 'The access token.';
comment on column turnpike.chatbot_cooldown.version is 'The version its sessions asked for: 1 or 3.';
comment on column turnpike.chatbot_cooldown.until is 'Not before this instant.';

create table turnpike.imported_usage (
  token_id          bigint not null,
  source_id         bigint not null,
  prompt_tokens     bigint,
  completion_tokens bigint,
  total_tokens      bigint,
  price             bigint,
  requested_at      timestamptz not null,
  remote_id         text,
  model             text,
  constraint imported_usage_identified primary key (token_id, source_id),
  constraint imported_usage_of_token foreign key (token_id) references turnpike.access_token (id) on delete cascade
);
create index imported_usage_by_time on turnpike.imported_usage (token_id, requested_at);

comment on table turnpike.imported_usage is 'Usage that an earlier system had booked before it moved. Shown, never charged again.';
comment on column turnpike.imported_usage.token_id is 'Whose.';
comment on column turnpike.imported_usage.source_id is 'Its row in the earlier system: importing it again changes nothing.';
comment on column turnpike.imported_usage.prompt_tokens is 'Input tokens.';
comment on column turnpike.imported_usage.completion_tokens is 'Output tokens.';
comment on column turnpike.imported_usage.total_tokens is 'Both.';
comment on column turnpike.imported_usage.price is 'What the earlier system reckoned, nano-USD. Null: it did not.';
comment on column turnpike.imported_usage.requested_at is 'When.';
comment on column turnpike.imported_usage.remote_id is 'The provider''s id of the answer.';
comment on column turnpike.imported_usage.model is 'The model.';

create function turnpike.tokens_used(token bigint, out prompt bigint, out completion bigint)
language sql stable as $$
  select c.prompt, c.completion from turnpike.access_token_counter as c where c.token_id = tokens_used.token
$$;

comment on function turnpike.tokens_used(bigint) is 'Prompt and completion tokens that an access token has been charged for.';

-- Run as their owner: serving issues no tokens and edits none, but for those of resale's users.
create function turnpike.resale_issue(admin bigint, name text, prompt bigint, completion bigint) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  account bigint;
  digest constant bytea := sha256(convert_to(turnpike.new_secret(), 'UTF8'));
  user_id bigint;
begin
  select t.account_id into account
    from turnpike.resale_admin as r join turnpike.access_token as t on t.id = r.token_id where r.token_id = resale_issue.admin;
  if account is null then
    raise exception 'the access token is no admin of resale' using errcode = 'insufficient_privilege';
  end if;
  -- Two calls for one name make one user.
  perform pg_advisory_xact_lock(hashtextextended('turnpike.resale_user', account));
  select u.token_id into user_id from turnpike.resale_user as u where u.account_id = account and u.name = resale_issue.name;
  if user_id is null then
    -- Nobody is told its secret: the admin speaks for the user by name.
    insert into turnpike.access_token (account_id, sha256, prefix, label, prompt_tokens, completion_tokens)
    values (account, digest, 'resale-' || left(encode(sha256(digest), 'hex'), 6), left(resale_issue.name, 200),
            resale_issue.prompt, resale_issue.completion)
    returning id into user_id;
    insert into turnpike.resale_user (token_id, account_id, name) values (user_id, account, resale_issue.name);
  end if;
  return user_id;
end $$;

comment on function turnpike.resale_issue(bigint, text, bigint, bigint) is
  'Makes a user of resale with these budgets, in the account of the admin''s token; returns his access token''s id. One that is there stays as he is.';

create function turnpike.resale_set_left(admin bigint, name text, prompt bigint, completion bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  user_id bigint;
  used record;
begin
  select u.token_id into user_id
    from turnpike.resale_admin as r
    join turnpike.access_token as t on t.id = r.token_id
    join turnpike.resale_user as u on u.account_id = t.account_id and u.name = resale_set_left.name
   where r.token_id = resale_set_left.admin;
  if user_id is null then
    return false;
  end if;
  select * into used from turnpike.tokens_used(user_id);
  update turnpike.access_token as t
     set prompt_tokens = greatest(used.prompt + resale_set_left.prompt, 0),
         completion_tokens = greatest(used.completion + resale_set_left.completion, 0)
   where t.id = user_id;
  return true;
end $$;

comment on function turnpike.resale_set_left(bigint, text, bigint, bigint) is
  'Sets what a user of resale has left of both budgets; false when the admin''s token has no such user.';

create function turnpike.make_dialog(token bigint, door text, name bytea, content bytea, most bigint, idle_ms bigint) returns boolean
language plpgsql as $$
begin
  -- Two that are made at once count one after the other.
  perform pg_advisory_xact_lock(hashtextextended('turnpike.dialog', make_dialog.token));
  if (select count(*) from turnpike.dialog as d
       where d.token_id = make_dialog.token and d.door = make_dialog.door
         and d.touched_at > now() - make_dialog.idle_ms * interval '1 ms') >= make_dialog.most then
    return false;
  end if;
  insert into turnpike.dialog (token_id, door, name, content)
  values (make_dialog.token, make_dialog.door, make_dialog.name, make_dialog.content);
  return true;
end $$;

comment on function turnpike.make_dialog(bigint, text, bytea, bytea, bigint, bigint) is
  'Makes a dialog, unless the access token has that many already that were used of late; returns whether it did.';

create function turnpike.start_cooldown(token bigint, version smallint, cooldown_ms bigint) returns bigint
language plpgsql as $$
begin
  insert into turnpike.chatbot_cooldown as c (token_id, version, until)
  values (start_cooldown.token, start_cooldown.version, clock_timestamp() + start_cooldown.cooldown_ms * interval '1 ms')
  on conflict on constraint chatbot_cooldown_identified do update set until = excluded.until where c.until <= clock_timestamp();
  if found then
    return null;
  end if;
  return (select greatest(floor(extract(epoch from c.until - clock_timestamp()) * 1000), 0)::bigint
            from turnpike.chatbot_cooldown as c
           where c.token_id = start_cooldown.token and c.version = start_cooldown.version);
end $$;

comment on function turnpike.start_cooldown(bigint, smallint, bigint) is
  'Starts an access token''s cooldown and returns null; while one is running, returns its milliseconds left.';

create function turnpike.grant_front_roles() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from pg_roles where rolname = 'turnpike_gateway') then
    grant select, insert, update, delete on turnpike.dialog, turnpike.chatbot_cooldown to turnpike_gateway;
    grant select on turnpike.resale_admin, turnpike.resale_user, turnpike.imported_usage to turnpike_gateway;
    grant execute on function turnpike.tokens_used, turnpike.resale_issue, turnpike.resale_set_left, turnpike.make_dialog, turnpike.start_cooldown
      to turnpike_gateway;
  end if;
  if exists (select from pg_roles where rolname = 'turnpike_admin') then
    -- All but name and content.
    grant select (id, token_id, created_at, touched_at, turn_until, turn, door), insert, delete on turnpike.dialog to turnpike_admin;
    grant select, insert, delete on turnpike.resale_admin, turnpike.resale_user, turnpike.imported_usage to turnpike_admin;
    grant select on turnpike.chatbot_cooldown to turnpike_admin;
    grant execute on function turnpike.tokens_used to turnpike_admin;
  end if;
end $$;

comment on function turnpike.grant_front_roles() is
  'Grants the roles turnpike_gateway and turnpike_admin what the front doors need. Harmless to repeat.';

revoke all on function turnpike.forget_dialogs, turnpike.make_dialog, turnpike.start_cooldown, turnpike.tokens_used, turnpike.resale_issue, turnpike.resale_set_left,
  turnpike.grant_front_roles from public;
select turnpike.grant_front_roles();
