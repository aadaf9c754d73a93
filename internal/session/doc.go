// Package session is the session store: it keeps what must outlive the process, with
// every secret sealed, and implements deploy.Store and deploy.Ledger. It has two
// homes, SQLite in a folder and PostgreSQL for replicas, which speak one SQL; what
// differs between them is behind the interface home.
//
// What a session may do, and when an account is over, is decided in package deploy;
// this room only remembers.
package session
