ALTER TABLE credentials
    ADD COLUMN permission_role text NOT NULL DEFAULT 'user',
    ADD COLUMN standing_number integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN credentials.status IS 'active, suspended, banned; deleted: erased, the address may be registered anew';
COMMENT ON COLUMN credentials.standing_number IS 'of the newest standing: of two the one with the higher number counts';

ALTER TABLE reports
    ALTER COLUMN reporter_id DROP NOT NULL,
    ADD COLUMN due_at      timestamptz,
    ADD COLUMN context_id  uuid,
    ADD COLUMN contact     text,
    ADD COLUMN signature   text,
    ADD COLUMN decision_id uuid;
UPDATE reports SET due_at = created_at + interval '7 days';
ALTER TABLE reports ALTER COLUMN due_at SET NOT NULL;
CREATE INDEX reports_due ON reports (due_at, target_id) WHERE status = 'open';
COMMENT ON COLUMN reports.reporter_id IS 'NULL: the public form for intimate images, whose sender contact and signature name';

CREATE TABLE moderation_cases (
    target_id   uuid PRIMARY KEY,
    target_type text NOT NULL,
    number      integer NOT NULL,
    version     bigint NOT NULL,
    history     jsonb NOT NULL
);
COMMENT ON TABLE moderation_cases IS 'distribution key: target_id; what the moderation shard remembers of a target';

CREATE TABLE decisions (
    target_id   uuid NOT NULL,
    id          uuid NOT NULL,
    target_type text NOT NULL,
    subject_id  uuid,
    action      text NOT NULL,
    category    text NOT NULL,
    statement   text NOT NULL,
    decided_by  text NOT NULL,
    decided_at  timestamptz NOT NULL,
    number      integer NOT NULL,
    version     bigint NOT NULL,
    PRIMARY KEY (target_id, id)
);
COMMENT ON TABLE decisions IS 'distribution key: target_id; statements of reasons, kept for good';

CREATE TABLE appeals (
    target_id    uuid NOT NULL,
    decision_id  uuid NOT NULL,
    id           uuid NOT NULL,
    appellant_id uuid NOT NULL,
    body         text NOT NULL,
    appealed_at  timestamptz NOT NULL,
    due_at       timestamptz NOT NULL,
    outcome      text,
    statement    text,
    decided_by   text,
    decided_at   timestamptz,
    version      bigint NOT NULL,
    PRIMARY KEY (target_id, decision_id)
);
CREATE INDEX appeals_due ON appeals (due_at, target_id) WHERE outcome IS NULL;
COMMENT ON TABLE appeals IS 'distribution key: target_id';

CREATE TABLE audit_log (
    target_id uuid NOT NULL,
    id        uuid NOT NULL,
    at        timestamptz NOT NULL,
    actor     text NOT NULL,
    action    text NOT NULL,
    details   jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (target_id, id)
);
CREATE INDEX audit_log_by_time ON audit_log (at DESC, id);
COMMENT ON TABLE audit_log IS 'distribution key: target_id; append-only: the trigger refuses everything else';
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE consents (
    person_id  uuid NOT NULL,
    creator_id uuid NOT NULL,
    given      boolean NOT NULL,
    changed_at timestamptz NOT NULL,
    version    bigint NOT NULL,
    PRIMARY KEY (person_id, creator_id)
);
CREATE INDEX consents_by_creator ON consents (creator_id);
COMMENT ON TABLE consents IS 'distribution key: person_id; who lets whom publish pictures of them, kept while either is in force';

CREATE TABLE assessments (
    user_id    uuid NOT NULL,
    id         uuid NOT NULL,
    provider   text NOT NULL,
    method     text NOT NULL,
    status     text NOT NULL,
    changed_at timestamptz NOT NULL,
    version    bigint NOT NULL,
    PRIMARY KEY (user_id, id)
);
COMMENT ON TABLE assessments IS 'distribution key: user_id; results of age assurance, never a document';

CREATE INDEX comments_by_author ON comments (author_id);

CREATE TABLE erasures (
    user_id   uuid PRIMARY KEY,
    erased_at timestamptz NOT NULL,
    version   bigint NOT NULL
);
CREATE INDEX erasures_by_time ON erasures (erased_at);
COMMENT ON TABLE erasures IS 'distribution key: user_id; tombstones, which a restored backup replays';
