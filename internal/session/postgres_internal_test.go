package session

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// TestPlaintextStaysHome: over a network there is no way back from TLS that nobody
// asked for.
func TestPlaintextStaysHome(t *testing.T) {
	for url, want := range map[string][2]bool{ // the first way is TLS, another way is plain
		"postgres://u@db.example/d":                     {true, false},
		"postgres://u@db.example/d?sslmode=prefer":      {true, false},
		"postgres://u@db.example/d?sslmode=require":     {true, false},
		"postgres://u@10.0.0.1,10.0.0.2/d":              {true, false},
		"postgres://u@db.example/d?sslmode=disable":     {false, false},
		"postgres://u@127.0.0.1/d":                      {true, true},
		"postgres://u@[::1]/d":                          {true, true},
		"postgres://u@localhost,db.example/d":           {true, true},
		"postgres:///d?host=/var/run/postgresql&user=u": {false, false},
	} {
		cfg, err := pgx.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		keepTLS(cfg)
		plain := false
		for _, f := range cfg.Fallbacks {
			plain = plain || f.TLSConfig == nil
			if f.TLSConfig == nil && f.Host == "db.example" {
				t.Errorf("%s: plain to %s", url, f.Host)
			}
		}
		if got := [2]bool{cfg.TLSConfig != nil, plain}; got != want {
			t.Errorf("%s: %v, want %v", url, got, want)
		}
	}
}

// TestWhatAServerIsTold: a stronger wish of the operator's is left alone.
func TestWhatAServerIsTold(t *testing.T) {
	for _, c := range []struct{ param, wish, want string }{
		{"synchronous_commit", "off", "on"},
		{"synchronous_commit", "remote_apply", "remote_apply"},
		{"idle_in_transaction_session_timeout", "", "1min"},
		{"idle_in_transaction_session_timeout", "5000", "5s"},
		{"lock_timeout", "", "30s"},
	} {
		url := peertest.Postgres(t)
		if c.wish != "" {
			url += "&" + c.param + "=" + c.wish
		}
		s, err := Open(t.Context(), Config{URL: deploy.Secret(url), Key: make([]byte, keyBytes)})
		if err != nil {
			t.Fatal(err)
		}
		db, _, err := s.DB(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if err := db.QueryRowContext(t.Context(), "SELECT current_setting($1)", c.param).Scan(&got); err != nil || got != c.want {
			t.Errorf("%s, wished %q: %q, want %q (%v)", c.param, c.wish, got, c.want, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
