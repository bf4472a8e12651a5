DROP INDEX CONCURRENTLY IF EXISTS media_withheld;
CREATE INDEX CONCURRENTLY media_withheld ON media (id) WHERE facts ->> 'removedBy' IS NOT NULL;
