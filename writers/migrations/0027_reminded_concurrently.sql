DROP INDEX CONCURRENTLY IF EXISTS users_reminded;
CREATE INDEX CONCURRENTLY users_reminded ON users (last_active_at, id)
    WHERE preferences ->> 'mailReminders' = 'true' AND status = 'active';
