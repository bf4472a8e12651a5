CREATE INDEX subscription_tiers_by_id ON subscription_tiers (id);
