package cloudflare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cloudflare/cloudflare-go/v7/option"
	"github.com/cloudflare/cloudflare-go/v7/workers"
	"github.com/coder/websocket"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

const (
	doingTail = "opening the stream of the Worker's invocations"
	// tailProtocol is the WebSocket's subprotocol (section 14).
	tailProtocol = "trace-v1"
	// maxFrame bounds one event as it travels; a longer one ends the stream.
	maxFrame = 1 << 20
	// maxWaiting is how many events are kept for a reader that is late. What is over
	// that, the oldest, is lost: who looks for an event looks for a new one.
	maxWaiting = 128
	// deleteWithin bounds telling the API that a tail is over.
	deleteWithin = time.Second
)

// errTailOver is why Next gives nothing any more after Close.
var errTailOver = errors.New("the tail was closed")

// tail implements deploy.Tail.
type tail struct {
	client *Client
	acct   *deploy.Account
	worker string
	id     string
	conn   *websocket.Conn
	events chan deploy.TraceEvent // closed when the stream is over
	stop   context.CancelFunc
	once   sync.Once
	done   sync.WaitGroup

	mu  sync.Mutex
	why error // why the stream is over
}

// Tail opens the stream of a Worker's invocations, which has to exist already. ctx
// bounds the opening only.
func (c *Client) Tail(ctx context.Context, acct *deploy.Account, worker string) (deploy.Tail, error) {
	if err := checkAccount(acct); err != nil {
		return nil, err
	}
	if err := checkWorker(worker); err != nil {
		return nil, err
	}
	id, address, err := c.newTail(ctx, acct, worker)
	if err != nil {
		return nil, err
	}
	t := &tail{client: c, acct: acct, worker: worker, id: id, events: make(chan deploy.TraceEvent, maxWaiting)}
	if err := t.dial(ctx, address); err != nil {
		t.forget()
		return nil, err
	}
	running, stop := context.WithCancel(context.Background())
	t.stop = stop
	t.done.Go(func() { t.read(running) })
	t.done.Go(func() { t.ping(running) })
	return t, nil
}

// newTail asks the API for a tail. It is not repeated: each makes another.
func (c *Client) newTail(ctx context.Context, acct *deploy.Account, worker string) (id, address string, err error) {
	result, err := c.call(ctx, try{doing: doingTail, timeout: c.cfg.Timeout}, func(ctx context.Context, opts ...option.RequestOption) error {
		params := workers.ScriptTailNewParams{Body: struct{}{}}
		params.AccountID.Value, params.AccountID.Present = acct.ID, true
		opts = append(opts, option.WithRequestBody("application/json", bytes.NewReader([]byte(`{"filters":[]}`))))
		_, err := workers.NewScriptTailService(c.with(acct)...).New(ctx, worker, params, opts...)
		return err
	})
	if err != nil {
		return "", "", err
	}
	var in struct {
		ID  string `json:"id"`
		URL string `json:"url"`
	}
	decodeErr := json.Unmarshal(result, &in)
	c.learn(in.URL)
	if decodeErr != nil || !isIdentifier(in.ID) {
		return "", "", missing(doingTail, "id")
	}
	sockets := &socketGuard{loopback: c.loopback}
	if err := sockets.checkSocketURL(in.URL); err != nil {
		c.forgetTail(acct, worker, in.ID)
		return "", "", badResponse(doingTail, err.Error())
	}
	return in.ID, in.URL, nil
}

func (t *tail) dial(ctx context.Context, address string) error {
	limited, cancel := context.WithTimeout(ctx, t.client.cfg.Timeout)
	defer cancel()
	conn, res, err := websocket.Dial(limited, address, &websocket.DialOptions{
		HTTPClient:   t.client.sockets,
		HTTPHeader:   map[string][]string{"User-Agent": {t.client.cfg.UserAgent}},
		Subprotocols: []string{tailProtocol},
	})
	if res != nil && res.Body != nil {
		_ = res.Body.Close()
	}
	if err != nil {
		if res != nil {
			return badResponse(doingTail, fmt.Sprintf("HTTP %d instead of a WebSocket", res.StatusCode))
		}
		return t.client.noAnswer(ctx, limited, doingTail, err).err
	}
	conn.SetReadLimit(maxFrame)
	t.conn = conn
	if err := conn.Write(limited, websocket.MessageText, []byte(`{"debug":false}`)); err != nil {
		_ = conn.CloseNow()
		return t.client.noAnswer(ctx, limited, doingTail, err).err
	}
	return nil
}

// read takes events off the wire until the stream ends. It never waits for a reader.
func (t *tail) read(ctx context.Context) {
	defer close(t.events)
	defer t.conn.CloseNow() //nolint:errcheck // it is over
	for {
		_, frame, err := t.conn.Read(ctx)
		if err != nil {
			t.over(err)
			return
		}
		ev, ok := parseTraceEvent(frame, t.client.cfg.Redact)
		if !ok {
			continue
		}
		for sent := false; !sent; {
			select {
			case t.events <- ev:
				sent = true
			default:
				select {
				case <-t.events: // the oldest makes room
				default:
				}
			}
		}
	}
}

// ping keeps the way open and notices when it is not. The pong is read by read.
func (t *tail) ping(ctx context.Context) {
	every := time.NewTicker(t.client.cfg.PingEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		limited, cancel := context.WithTimeout(ctx, t.client.cfg.PingEvery)
		err := t.conn.Ping(limited)
		cancel()
		if err != nil {
			t.over(err)
			_ = t.conn.CloseNow()
			return
		}
	}
}

// over notes why the stream is over; the first reason counts.
func (t *tail) over(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.why == nil {
		t.why = err
	}
}

// Next implements deploy.Tail. Events that came before the end are given first.
func (t *tail) Next(ctx context.Context) (deploy.TraceEvent, error) {
	if err := ctx.Err(); err != nil {
		return deploy.TraceEvent{}, err //nolint:wrapcheck // the port promises ctx's error
	}
	select {
	case ev, open := <-t.events:
		if open {
			return ev, nil
		}
	case <-ctx.Done():
		return deploy.TraceEvent{}, ctx.Err() //nolint:wrapcheck // the port promises ctx's error
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return deploy.TraceEvent{}, deploy.Errorf(deploy.CodeAPIUnreachable,
		"Deploy or look again: the stream is opened anew.", "the stream of the Worker's invocations is over").Caused(bare(t.why))
}

// Close ends the stream. The API is told in the background, within a second;
// Client.Close waits for that.
func (t *tail) Close() error {
	t.once.Do(func() {
		t.hangUp()
		t.forget()
	})
	return nil
}

// Drop ends the stream. The API notices by itself that nobody listens.
func (t *tail) Drop() { t.once.Do(t.hangUp) }

func (t *tail) hangUp() {
	t.over(errTailOver)
	t.stop()
	_ = t.conn.CloseNow()
	t.done.Wait()
}

func (t *tail) forget() { t.client.forgetTail(t.acct, t.worker, t.id) }

// forgetTail tells the API that a tail is over. It ends by itself too, so a failure
// is nobody's concern.
func (c *Client) forgetTail(acct *deploy.Account, worker, id string) {
	c.inBackground(func() {
		_, _ = c.call(context.Background(), try{doing: "ending a tail", timeout: deleteWithin}, func(ctx context.Context, opts ...option.RequestOption) error {
			params := workers.ScriptTailDeleteParams{}
			params.AccountID.Value, params.AccountID.Present = acct.ID, true
			_, err := workers.NewScriptTailService(c.with(acct)...).Delete(ctx, worker, id, params, opts...)
			return err
		})
	})
}
