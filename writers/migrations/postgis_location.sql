CREATE EXTENSION IF NOT EXISTS postgis;
ALTER TABLE users ADD COLUMN location geography(Point, 4326)
    GENERATED ALWAYS AS (ST_SetSRID(ST_MakePoint(longitude, latitude), 4326)::geography) STORED;
CREATE INDEX users_by_location ON users USING gist (location);
