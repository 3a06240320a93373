// The Go design that Runtrail follows, on database/sql and go-sqlite3: its tables and four indexes,
// with one statement per call.
//
// Reads the name of an operation from each line of stdin, and prints how many it has performed per
// second, like peers.py.
package main

import (
	"bufio"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	_ "github.com/mattn/go-sqlite3"
)

const (
	runs  = 50
	lists = 20
	limit = 50
)

const schema = `
CREATE TABLE skill_runs (
	id TEXT PRIMARY KEY, skill_id TEXT NOT NULL, caller_id TEXT NOT NULL, channel_id TEXT NOT NULL,
	parent_run_id TEXT NOT NULL DEFAULT '', inputs TEXT NOT NULL, started_at INTEGER NOT NULL,
	finished_at INTEGER NOT NULL DEFAULT 0, status TEXT NOT NULL, output TEXT NOT NULL DEFAULT '',
	error TEXT NOT NULL DEFAULT '', tool_calls INTEGER NOT NULL DEFAULT 0,
	runtime_seconds REAL NOT NULL DEFAULT 0, total_input_tokens INTEGER NOT NULL DEFAULT 0,
	total_output_tokens INTEGER NOT NULL DEFAULT 0, total_thinking_tokens INTEGER NOT NULL DEFAULT 0);
CREATE INDEX runs_by_skill ON skill_runs (skill_id, started_at);
CREATE INDEX runs_by_caller ON skill_runs (caller_id, started_at);
CREATE INDEX runs_by_parent ON skill_runs (parent_run_id);
CREATE INDEX runs_by_start ON skill_runs (started_at);
CREATE TABLE skill_run_logs (
	run_id TEXT NOT NULL, seq INTEGER NOT NULL, event_type TEXT NOT NULL, payload TEXT NOT NULL,
	created_at INTEGER NOT NULL, PRIMARY KEY (run_id, seq));`

const columns = `id, skill_id, caller_id, channel_id, parent_run_id, inputs, started_at, finished_at,
	status, output, error, tool_calls, runtime_seconds, total_input_tokens, total_output_tokens,
	total_thinking_tokens`

type run struct {
	id, skill, caller, channel, parent, inputs, status, output, err string
	started, finished, toolCalls, input, outputTokens, thinking     int64
	seconds                                                         float64
}

func (r *run) fields() []any {
	return []any{&r.id, &r.skill, &r.caller, &r.channel, &r.parent, &r.inputs, &r.started,
		&r.finished, &r.status, &r.output, &r.err, &r.toolCalls, &r.seconds, &r.input,
		&r.outputTokens, &r.thinking}
}

type store struct {
	db       *sql.DB
	payloads []string
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func (s *store) exec(query string, values ...any) {
	_, err := s.db.Exec(query, values...)
	check(err)
}

func (s *store) record() string {
	bytes := make([]byte, 16)
	_, err := rand.Read(bytes)
	check(err)
	r := run{id: fmt.Sprintf("%x", bytes), skill: "summarise", caller: "user-1", channel: "web",
		inputs: `{"topic":"runs"}`, started: time.Now().Unix(), status: "running"}
	s.exec("INSERT OR REPLACE INTO skill_runs ("+columns+
		") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", r.fields()...)
	for seq, payload := range s.payloads {
		s.exec("INSERT OR REPLACE INTO skill_run_logs (run_id, seq, event_type, payload, created_at)"+
			" VALUES (?, ?, ?, ?, ?)", r.id, seq, "message", payload, time.Now().Unix())
	}
	s.exec(`UPDATE skill_runs SET finished_at = ?, status = ?, output = ?, error = ?, tool_calls = ?,
		runtime_seconds = ?, total_input_tokens = ?, total_output_tokens = ?,
		total_thinking_tokens = ? WHERE id = ?`,
		time.Now().Unix(), "ok", "done", "", 3, 1.5, 100, 20, 0, r.id)
	return r.id
}

func (s *store) get(id string) {
	var r run
	check(s.db.QueryRow("SELECT "+columns+" FROM skill_runs WHERE id = ?", id).Scan(r.fields()...))
}

func (s *store) list() {
	rows, err := s.db.Query("SELECT "+columns+" FROM skill_runs WHERE skill_id = ?"+
		" AND status <> 'dry_run' ORDER BY started_at DESC LIMIT ?", "summarise", limit)
	check(err)
	defer rows.Close()
	found := 0
	for rows.Next() {
		var r run
		check(rows.Scan(r.fields()...))
		found++
	}
	check(rows.Err())
	if found != limit {
		panic(fmt.Sprintf("%d runs", found))
	}
}

func (s *store) delete(ids []string) {
	for _, id := range ids {
		s.exec("DELETE FROM skill_run_logs WHERE run_id = ?", id)
		s.exec("DELETE FROM skill_runs WHERE id = ?", id)
	}
}

func main() {
	text, err := os.ReadFile(os.Args[2])
	check(err)
	s := store{}
	check(json.Unmarshal(text, &s.payloads))
	file := filepath.Join(os.Args[1], "go.db")
	s.db, err = sql.Open("sqlite3", "file:"+file+
		"?_journal_mode=WAL&_synchronous=FULL&_foreign_keys=on&_busy_timeout=10000")
	check(err)
	s.db.SetMaxOpenConns(1)
	s.exec(schema)

	var recorded []string
	for i := 0; i < 2*runs; i++ {
		recorded = append(recorded, s.record())
	}
	operations := bufio.NewScanner(os.Stdin)
	for operations.Scan() {
		begun, count := time.Now(), runs
		switch operations.Text() {
		case "record":
			for i := 0; i < runs; i++ {
				recorded = append(recorded, s.record())
			}
		case "get":
			for _, id := range recorded[len(recorded)-runs:] {
				s.get(id)
			}
		case "list":
			count = lists
			for i := 0; i < lists; i++ {
				s.list()
			}
		case "delete":
			s.delete(recorded[:runs])
			recorded = recorded[runs:]
		}
		fmt.Println(float64(count) / time.Since(begun).Seconds())
	}
	check(operations.Err())
}
