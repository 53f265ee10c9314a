-- A job is given up once its provider has said several times in a row that it knows no such thing. Counting claims instead took a single
-- stray 404 in a long job's life for that. How often in a row it could not be asked is counted as well, so that it is asked more seldom.
-- Safe: adds two columns with defaults; the older version goes on counting claims.

alter table turnpike.job
  add column misses   integer not null default 0,
  add column failures integer not null default 0,
  add constraint job_in_a_row_not_negative check (least(misses, failures) >= 0);

comment on column turnpike.job.misses is 'How often in a row the provider said that it knows no such thing.';
comment on column turnpike.job.failures is 'How often in a row there was no answer to go by.';

-- Made anew since it returns whole rows.
create or replace function turnpike.claim_jobs(instance bigint, most integer, claimed_seconds integer) returns setof turnpike.job
language sql
begin atomic
  update turnpike.job as j
     set claimed_by = instance, claimed_until = now() + claimed_seconds * interval '1 second', attempts = j.attempts + 1
    from (select d.exchange_id from turnpike.job as d
           where d.ended_at is null and d.poll_at <= now() and (d.claimed_until is null or d.claimed_until <= now())
           order by d.poll_at limit most for update skip locked) as due
   where j.exchange_id = due.exchange_id
  returning j.*;
end;
