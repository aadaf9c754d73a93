package audit_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/audit"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// appendAsProcess is the other process of these tests: this binary again. It appends
// and says so of each record, once it is durable.
func appendAsProcess() int {
	kind, driver, dsn, who := os.Getenv("AUDIT_TEST_KIND"), os.Getenv("AUDIT_TEST_DRIVER"), os.Getenv("AUDIT_TEST_DSN"), os.Getenv("AUDIT_TEST_APPEND")
	n, _ := strconv.Atoi(os.Getenv("AUDIT_TEST_COUNT"))
	db, err := sql.Open(driver, dsn)
	if err != nil {
		fmt.Println("open:", err)
		return 1
	}
	defer db.Close()
	l, err := audit.New(audit.Config{
		Database: func(context.Context) (*sql.DB, audit.Dialect, error) { return db, audit.Dialect(kind), nil },
		KeyFile:  os.Getenv("AUDIT_TEST_KEY"),
	})
	if err != nil {
		fmt.Println("new:", err)
		return 1
	}
	for i := range n {
		id := fmt.Sprintf("%s-%d", who, i)
		if err := l.Append(context.Background(), deploy.Event{ActID: id, Phase: deploy.PhaseDecision, Act: "deploy", Principal: who}); err != nil {
			fmt.Println("append:", err)
			return 1
		}
		fmt.Println("done", id)
	}
	return 0
}

func (d *desk) process(who string, count int) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "AUDIT_TEST_APPEND="+who, "AUDIT_TEST_COUNT="+strconv.Itoa(count), "AUDIT_TEST_KIND="+string(d.place.kind),
		"AUDIT_TEST_DRIVER="+d.place.driver, "AUDIT_TEST_DSN="+d.place.dsn, "AUDIT_TEST_KEY="+d.cfg.KeyFile)
	cmd.Stderr = os.Stderr
	return cmd
}

// TestTwoProcesses: two processes that begin on an empty database at once, and this
// one, append at the same time to one log.
func TestTwoProcesses(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		d := lay(t, p)
		const each = 25
		a, b := d.process("a", each), d.process("b", each)
		out := map[*exec.Cmd]*strings.Builder{a: {}, b: {}}
		for cmd, w := range out {
			cmd.Stdout = w
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
		}
		d.fill(t, each)
		for cmd, w := range out {
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v: %s", err, w)
			}
		}
		if r := d.verify(t, d.notes...); !r.OK || r.Records != 3*each || r.Checkpoints != 3*each || r.Outside != each {
			t.Errorf("%+v", r)
		}
		for _, who := range []string{"a", "b", "local"} {
			if got, err := d.List(t.Context(), audit.Filter{Principal: who}); err != nil || len(got) != each {
				t.Errorf("%s has %d records, %v", who, len(got), err)
			}
		}
	})
}

// TestKilledWhileAppending: a process that dies at any moment leaves a log in which
// everything is that it said was there, and nothing by half.
func TestKilledWhileAppending(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		d := lay(t, p).fill(t, 1)
		said := 0
		for round := range 4 {
			cmd := d.process(fmt.Sprintf("victim%d", round), 1<<20)
			pipe, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(pipe)
			for n := 0; n < 5+round*3 && lines.Scan(); n++ {
				if !strings.HasPrefix(lines.Text(), "done") {
					t.Error(lines.Text())
				}
				said++
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			for lines.Scan() { // what it had said by then
				if strings.HasPrefix(lines.Text(), "done") {
					said++
				}
			}
			_ = cmd.Wait()
			r := d.verify(t, d.notes...)
			// One more may be durable and not yet said.
			if had := int(r.Records) - len(d.notes); !r.OK || had < said || had > said+round+1 {
				t.Fatalf("round %d: %d said, %+v", round, said, r)
			}
		}
		d.fill(t, 1) // and it goes on
		if r := d.verify(t, d.notes...); !r.OK {
			t.Errorf("%+v", r)
		}
	})
}
