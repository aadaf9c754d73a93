package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// conn is one connection of a client that costs little, so that the cores are left to
// the servers: it writes requests that are made once and reads whole answers.
type conn struct {
	net.Conn
	read *bufio.Reader
	addr string
	out  bytes.Buffer
}

// answerWait bounds the wait for one answer.
const answerWait = 30 * time.Second

func (c *conn) post(session, body string) (newSession string, answer []byte, err error) {
	c.out.Reset()
	fmt.Fprintf(&c.out, "POST /mcp HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n", c.addr)
	if session != "" {
		c.out.WriteString("Mcp-Session-Id: " + session + "\r\nMcp-Protocol-Version: 2025-11-25\r\n")
	}
	fmt.Fprintf(&c.out, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return c.exchange()
}

// exchange sends what is in out and reads the answer to its end; newSession is the
// protocol session that it names.
func (c *conn) exchange() (newSession string, answer []byte, err error) {
	if err := c.SetDeadline(time.Now().Add(answerWait)); err != nil {
		return "", nil, fmt.Errorf("a request: %w", err)
	}
	if _, err := c.Write(c.out.Bytes()); err != nil {
		return "", nil, fmt.Errorf("a request: %w", err)
	}
	res, err := http.ReadResponse(c.read, nil)
	if err != nil {
		return "", nil, fmt.Errorf("a request: %w", err)
	}
	body, err := io.ReadAll(res.Body)
	if closing := res.Body.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return "", nil, fmt.Errorf("a request: %w", err)
	}
	if res.StatusCode/100 != 2 || bytes.Contains(body, []byte(`"error":{"code"`)) || bytes.Contains(body, []byte(`"isError":true`)) {
		return "", nil, fmt.Errorf("%w: HTTP %d %.300s", errAnswer, res.StatusCode, body)
	}
	return res.Header.Get("Mcp-Session-Id"), body, nil
}

const (
	initializeCall = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`
	listCall       = `{"jsonrpc":"2.0","id":3,"method":"tools/list"}`
)

// initialize begins a protocol session.
func (c *conn) initialize() (session string, err error) {
	session, _, err = c.post("", initializeCall)
	return session, err
}

// status asks for a stored session, and looks that the answer is about it.
func (c *conn) status(session, id string) error {
	_, body, err := c.post(session, statusCall(id))
	if err == nil && !bytes.Contains(body, []byte(`"phase`)) {
		err = fmt.Errorf("%w: %.300s", errAnswer, body)
	}
	return err
}

func statusCall(id string) string {
	return `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"status","arguments":{"session_id":"` + id + `"}}}`
}

// pool is the connections of a client.
type pool []*conn

func dial(addr string, n int) (pool, error) {
	var p pool
	for range n {
		c, err := net.DialTimeout("tcp", addr, answerWait)
		if err != nil {
			p.close()
			return nil, fmt.Errorf("connecting: %w", err)
		}
		p = append(p, &conn{Conn: c, read: bufio.NewReader(c), addr: addr})
	}
	return p, nil
}

func (p pool) close() {
	for _, c := range p {
		_ = c.Close() // all that was asked was answered
	}
}

// each runs do on every connection at once; the first error is given.
func (p pool) each(do func(c *conn) error) error {
	errs := make([]error, len(p))
	var wg sync.WaitGroup
	for i, c := range p {
		wg.Go(func() { errs[i] = do(c) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// times does n things, as many at once as there are connections.
func (p pool) times(n int, do func(c *conn, i int) error) error {
	var next atomic.Int64
	return p.each(func(c *conn) error {
		for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
			if err := do(c, int(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

// during does things until a time is over. It gives how long each took, in milliseconds,
// the shortest first, and how long all did.
func (p pool) during(d time.Duration, do func(c *conn, i int) error) (took []float64, lasted time.Duration, err error) {
	var next atomic.Int64
	var mu sync.Mutex
	began := time.Now()
	err = p.each(func(c *conn) error {
		var mine []float64
		for time.Since(began) < d {
			at := time.Now()
			if err := do(c, int(next.Add(1)-1)); err != nil {
				return err
			}
			mine = append(mine, float64(time.Since(at).Microseconds())/1000)
		}
		mu.Lock()
		defer mu.Unlock()
		took = append(took, mine...)
		return nil
	})
	lasted = time.Since(began)
	slices.Sort(took)
	if err == nil && len(took) == 0 {
		err = errAnswer
	}
	return took, lasted, err
}
