-- What people were told last of something: asked before they are told again.
CREATE INDEX notices_by_subject ON notices (subject, seq) WHERE subject IS NOT NULL;
