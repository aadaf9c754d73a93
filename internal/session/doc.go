// Package session is the session store: it keeps what must outlive the process in
// SQLite, with every secret sealed, and implements deploy.Store.
//
// What a session may do, and when an account is over, is decided in package deploy;
// this room only remembers.
package session
