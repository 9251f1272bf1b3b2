-- Records a sweep; returns whether leases that have expired may be taken back, and whether the clock was set back.
--
-- After a gap between two sweeps they may not for one lease. Parameters: gap and lease (seconds).
UPDATE sweeper
SET swept_at = now(),
    workers = (
        SELECT count(*) FROM workers WHERE state <> 'stopped' AND last_heartbeat > now() - interval '1 minute'
    ),
    patient_until = CASE
        WHEN abs(extract(epoch FROM now() - before.swept_at)) > :gap THEN now() + make_interval(secs => :lease)
        ELSE sweeper.patient_until
    END
FROM (SELECT swept_at FROM sweeper FOR UPDATE) AS before
RETURNING patient_until <= now() AS takes_back, coalesce(before.swept_at > now(), false) AS set_back
