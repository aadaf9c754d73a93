package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// keyVar holds the store's key as base64. It is no flag: other users of the machine
// see a process's arguments.
const keyVar = "HOURGLASS_KEY"

// leastKept is the shortest that anything may be kept: an account's hour.
const leastKept = time.Hour

// openStore opens the store that the options name. What of them is a secret is known
// to the redactor first.
func openStore(ctx context.Context, o *options, p process, redactor *deploy.Redactor) (*session.Store, error) {
	cfg := session.Config{KeyFile: o.KeyFile, ArtifactTTL: o.KeepArtifacts, RecordTTL: o.KeepRecords, LogTTL: o.KeepWorkerLogAge, CallLease: deploy.LeaseTTL, Secret: redactor.Add, Now: now}
	for _, k := range []struct {
		flag string
		kept time.Duration
	}{{"keep-artifacts", o.KeepArtifacts}, {"keep-records", o.KeepRecords}, {"keep-worker-log-age", o.KeepWorkerLogAge}} {
		if k.kept < leastKept {
			return nil, fmt.Errorf("--%s %s: at least %s, the life of an account", k.flag, k.kept, leastKept)
		}
	}
	var err error
	if cfg.Key, err = envKey(o, p, redactor); err != nil {
		return nil, err
	}
	if inFolder(o) {
		if cfg.Dir, err = stateDir(o, p); err != nil {
			return nil, err
		}
		return session.Open(ctx, cfg)
	}
	redactor.Add(o.Store)
	u, err := url.Parse(o.Store)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errors.New("--store is neither sqlite nor a PostgreSQL URL (postgres://user@host:5432/database?sslmode=verify-full); what was given is not repeated here, as it may hold a password")
	}
	if cfg.Key == nil && cfg.KeyFile == "" {
		return nil, fmt.Errorf("--store on PostgreSQL needs a key that all who share it have: make one (head -c 32 /dev/urandom > FILE; chmod 600 FILE) and give it to each with --key-file FILE, or as base64 in %s", keyVar)
	}
	cfg.URL = deploy.Secret(o.Store)
	return session.Open(ctx, cfg)
}

// storeSQLite is the store in the state folder.
const storeSQLite = "sqlite"

func inFolder(o *options) bool { return o.Store == "" || o.Store == storeSQLite }

// envKey reads the key from the environment; nil: it is not there.
func envKey(o *options, p process, redactor *deploy.Redactor) ([]byte, error) {
	text, _ := p.env(keyVar)
	if text == "" {
		return nil, nil
	}
	redactor.Add(text)
	if o.KeyFile != "" {
		return nil, fmt.Errorf("there are two keys, --key-file and %s: give one of them", keyVar)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("%s is not 32 bytes as base64 (head -c 32 /dev/urandom | base64)", keyVar)
	}
	return key, nil
}
