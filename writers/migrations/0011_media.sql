CREATE TABLE media (
    owner_id   uuid NOT NULL,
    id         uuid NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('image', 'video')),
    state      text NOT NULL CHECK (state IN ('pending', 'uploaded', 'ready', 'rejected', 'removed')),
    review     text NOT NULL CHECK (review IN ('pending', 'approved', 'rejected')),
    matched    text,
    preserved  boolean NOT NULL DEFAULT false,
    facts      jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    version    bigint NOT NULL,
    PRIMARY KEY (owner_id, id)
);
CREATE INDEX media_by_id ON media (id);
CREATE INDEX media_to_review ON media (created_at) WHERE state = 'ready' AND review = 'pending';
CREATE INDEX media_preserved ON media (created_at) WHERE preserved;
CREATE INDEX media_pending ON media (created_at) WHERE state = 'pending';
COMMENT ON TABLE media IS 'distribution key: owner_id; facts is configs.contracts.albums.MediaRow as JSON, the other columns are for finding it';
COMMENT ON COLUMN media.matched IS 'block list that it was found on; it was never processed further';
COMMENT ON COLUMN media.preserved IS 'the upload, or what was shown of it, is kept as evidence and must not be deleted with the media';

CREATE TABLE albums (
    owner_id uuid PRIMARY KEY,
    photos   uuid[] NOT NULL DEFAULT '{}',
    requests jsonb NOT NULL DEFAULT '[]',
    version  bigint NOT NULL
);
COMMENT ON TABLE albums IS 'distribution key: owner_id; the profile''s photos in order, and the version of the person''s newest event on media.uploaded';

CREATE TABLE media_hashes (
    hash     bytea NOT NULL CHECK (length(hash) = 32),
    list     text NOT NULL,
    source   text NOT NULL,
    added_at timestamptz NOT NULL,
    PRIMARY KEY (hash, list)
);
COMMENT ON TABLE media_hashes IS 'distribution key: none (reference table); PDQ hashes that nobody may upload, by list: csam (preserved, reported), removed (taken down here), or an operator''s own';
COMMENT ON COLUMN media_hashes.source IS 'the media, or the file, that it came from';
