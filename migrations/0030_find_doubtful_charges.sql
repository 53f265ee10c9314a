-- The console lists the latest charges whose figure is not the provider's own. Few are: an index of them alone spares it a walk over all
-- charges, and new partitions get it by themselves. Safe: adds an index; while it is built, settlements wait or go to the journal.

create index charge_doubtful on turnpike.charge (id) include (mark, amount, started_at)
  where mark not in ('measured', 'provider_cost');
