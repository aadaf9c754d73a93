package deploy

import (
	"context"
	"strconv"
	"strings"
)

// Access is what happened at the door of the console, for the record. It holds no code,
// cookie or key.
type Access struct {
	// Kind is one of the access notices.
	Kind string
	// User is who it is about; empty where nobody proved who they are.
	User ConsoleUser
	// By is who made it possible, where that is somebody else: the operator who printed a link.
	By string
	// How is the way: one of the Access ways.
	How string
	// Why says in a sentence why a try did not count.
	Why string
	// Missed are tries like it that were not recorded one by one, so that nobody can fill
	// the record by trying.
	Missed int
}

// The ways to the console.
const (
	AccessLink    = "link"    // a one-time link that an operator printed
	AccessIssuer  = "issuer"  // a login at the OpenID Connect issuer
	AccessPasskey = "passkey" // a passkey, on top of a login
)

// NoteAccess puts on record what happened at the console's door. What can't be recorded is
// not to be done.
func (s *Service) NoteAccess(ctx context.Context, a Access) error {
	e := Event{Door: DoorConsole, Detail: a.Why, Data: map[string]string{}}
	if a.User.Name != "" {
		e.Principal = "console:" + a.User.Name
	}
	if a.By != "" {
		e.Principal, e.Door = a.By, DoorCommand
	}
	scopes := make([]string, 0, len(a.User.Scopes))
	for _, sc := range a.User.Scopes {
		scopes = append(scopes, string(sc))
	}
	for k, v := range map[string]string{"user": a.User.ID, "owner": a.User.Owner, "scopes": strings.Join(scopes, ","), "how": a.How} {
		if v != "" {
			e.Data[k] = v
		}
	}
	if a.Missed > 0 {
		e.Data["missed"] = strconv.Itoa(a.Missed)
	}
	return s.notice(ctx, a.Kind, e)
}
