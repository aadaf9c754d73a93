package session

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
)

//go:embed migrations/*.sql
var migrations embed.FS

// schemaVersion is the newest migration.
const schemaVersion = 7

var blob = regexp.MustCompile(`\bBLOB\b`)

// migrationFiles are the migrations in a dialect: the two differ in the name of one type.
func migrationFiles(d Dialect) (fs.FS, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("the migrations: %w", err)
	}
	if d == Postgres {
		return byteaFS{files}, nil
	}
	return files, nil
}

// byteaFS shows the files of another file system with PostgreSQL's word for bytes.
type byteaFS struct{ fs.FS }

// Open implements fs.FS.
func (b byteaFS) Open(name string) (fs.File, error) {
	info, err := fs.Stat(b.FS, name)
	if err != nil || info.IsDir() {
		return b.FS.Open(name)
	}
	text, err := fs.ReadFile(b.FS, name)
	if err != nil {
		return nil, err
	}
	text = blob.ReplaceAll(text, []byte("BYTEA"))
	return &textFile{Reader: bytes.NewReader(text), info: sized{info, int64(len(text))}}, nil
}

type textFile struct {
	*bytes.Reader
	info fs.FileInfo
}

// Stat implements fs.File.
func (f *textFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// Close implements fs.File.
func (*textFile) Close() error { return nil }

type sized struct {
	fs.FileInfo
	size int64
}

// Size implements fs.FileInfo.
func (s sized) Size() int64 { return s.size }

// errNewer refuses the schema of a newer program: what it means is not known here.
func errNewer(version int64) error {
	return fmt.Errorf("the database was written by a newer version of this program (schema %d, not %d): use that one, or another store", version, schemaVersion)
}
