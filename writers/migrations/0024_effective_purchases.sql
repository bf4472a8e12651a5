ALTER TABLE post_purchases ADD COLUMN effective boolean NOT NULL DEFAULT false;
UPDATE post_purchases SET effective = true FROM (
    SELECT DISTINCT ON (buyer_id, post_id) buyer_id AS buyer, id AS name
    FROM post_purchases WHERE status = 'completed' ORDER BY buyer_id, post_id, requested_at, id
) AS first WHERE buyer_id = buyer AND id = name;
CREATE UNIQUE INDEX post_purchases_effective ON post_purchases (buyer_id, post_id) WHERE effective;
CREATE INDEX post_purchases_paid_twice ON post_purchases (requested_at) WHERE status = 'completed' AND NOT effective;
COMMENT ON COLUMN post_purchases.effective IS 'the one that opens the post; paid and not effective: paid twice, to be given back';
