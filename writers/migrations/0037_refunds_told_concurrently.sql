DROP INDEX CONCURRENTLY IF EXISTS provider_facts_refunds;
CREATE INDEX CONCURRENTLY provider_facts_refunds ON provider_facts (as_of) WHERE kind = 'refunded';
