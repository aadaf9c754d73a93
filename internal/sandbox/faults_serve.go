package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"
)

// unkind puts the faults before the API.
func (s *Sandbox) unkind(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var rule *faultRule
		if path, ok := strings.CutPrefix(r.URL.EscapedPath(), "/client/v4"); ok { // not the sockets of tails
			rule = s.faults.draw(r.Method, path)
		}
		if rule == nil {
			next.ServeHTTP(w, r)
			return
		}
		switch rule.Kind {
		case faultLatency:
			if sleep(r.Context(), time.Duration(rule.LatencyMS)*time.Millisecond) == nil {
				next.ServeHTTP(w, r)
			}
		case faultSlowEdge:
			slow := time.Duration(rule.LatencyMS) * time.Millisecond
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), slowEdgeKey{}, slow)))
		case faultResetBefore:
			panic(http.ErrAbortHandler)
		case faultResetAfter, faultTruncated, faultNotJSON:
			s.spoil(w, r, rule.Kind, next)
		default:
			_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxUpload))
			s.refuseUnkindly(w, r, rule)
		}
	})
}

type slowEdgeKey struct{}

// slowEdge is how long what a request brings takes to reach the edge, besides what is
// usual.
func slowEdge(ctx context.Context) time.Duration {
	d, _ := ctx.Value(slowEdgeKey{}).(time.Duration)
	return d
}

// refuseUnkindly answers a request that has no effect.
func (s *Sandbox) refuseUnkindly(w http.ResponseWriter, r *http.Request, rule *faultRule) {
	w.Header().Set("Date", s.clock.Now().UTC().Format(http.TimeFormat))
	switch rule.Kind {
	case faultRateLimited:
		e := refuse(http.StatusTooManyRequests, 10429, "Too many requests (a fault that was asked for)")
		e.retry = time.Duration(rule.RetryAfter) * time.Second
		s.writeError(w, e)
	case faultServerError:
		s.writeError(w, refuse(http.StatusInternalServerError, 10001, "Internal error (a fault that was asked for)"))
	case faultErrorsNull:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"success":false,"errors":null,"messages":null,"result":null}`)
	case faultBadGateway:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "<html><body><h1>502 Bad Gateway</h1></body></html>")
	case faultExpired, faultTokenEnds:
		token, _ := bearer(r)
		s.mu.Lock()
		if a := s.byToken[token]; a != nil && rule.Kind == faultExpired {
			a.expiresAt = s.clock.Now()
		} else if a != nil {
			a.locked = true
		}
		s.mu.Unlock()
		s.endExpired()
		s.writeError(w, errAuth(http.StatusUnauthorized))
	default: // faultToken
		s.writeError(w, errAuth(http.StatusUnauthorized))
	}
}

// spoil lets a request have its effect and spoils the answer.
func (s *Sandbox) spoil(w http.ResponseWriter, r *http.Request, kind string, next http.Handler) {
	kept := &keptAnswer{header: http.Header{}, status: http.StatusOK}
	next.ServeHTTP(kept, r)
	if kind == faultResetAfter {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), kept.header)
	if kind == faultNotJSON {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(kept.status)
		_, _ = io.WriteString(w, "<html>something between us answers</html>")
		return
	}
	w.Header().Set("Content-Length", fmt.Sprint(kept.body.Len()))
	w.WriteHeader(kept.status)
	_, _ = w.Write(kept.body.Bytes()[:kept.body.Len()/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// keptAnswer is an answer that is not sent yet.
type keptAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (k *keptAnswer) Header() http.Header { return k.header }

// WriteHeader implements http.ResponseWriter.
func (k *keptAnswer) WriteHeader(status int) { k.status = status }

// Write implements http.ResponseWriter.
func (k *keptAnswer) Write(p []byte) (int, error) { return k.body.Write(p) }
