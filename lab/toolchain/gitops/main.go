// What GitOps controllers see in an object: the answers of Flux and of Argo CD, from the libraries that they are made of.
//
// The object comes on standard input, as JSON. kstatus is always asked; `-lua` is a health check of Argo CD, `-cel` the
// entry of a Flux Kustomization's healthCheckExprs, as JSON. What they say is printed as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "sigs.k8s.io/json"
)

type seen struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// What Argo CD takes for a health; anything else is shown as Unknown.
var healths = map[string]bool{
	"Unknown": true, "Progressing": true, "Suspended": true, "Healthy": true, "Degraded": true, "Missing": true,
}

func main() {
	script := flag.String("lua", "", "a health check of Argo CD")
	expressions := flag.String("cel", "", "an entry of healthCheckExprs of a Flux Kustomization, as JSON")
	flag.Parse()
	if err := run(*script, *expressions); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(script, expressions string) error {
	object := &unstructured.Unstructured{}
	// As a client of Kubernetes decodes it: whole numbers are int64.
	if err := kjson.NewDecoderCaseSensitivePreserveInts(os.Stdin).Decode(&object.Object); err != nil {
		return fmt.Errorf("the object: %w", err)
	}
	answers := map[string]seen{}
	result, err := status.Compute(object)
	if err != nil {
		return fmt.Errorf("kstatus: %w", err)
	}
	answers["kstatus"] = seen{result.Status.String(), result.Message}
	if script != "" {
		if answers["lua"], err = health(object, script); err != nil {
			return fmt.Errorf("lua: %w", err)
		}
	}
	if expressions != "" {
		if answers["cel"], err = evaluate(object, expressions); err != nil {
			return fmt.Errorf("cel: %w", err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(answers)
}

func evaluate(object *unstructured.Unstructured, text string) (seen, error) {
	var check kustomize.CustomHealthCheck
	if strict, err := kjson.UnmarshalStrict([]byte(text), &check); err != nil || len(strict) > 0 {
		return seen{}, errors.Join(append(strict, err)...)
	}
	evaluator, err := cel.NewStatusEvaluator(&check.HealthCheckExpressions)
	if err != nil {
		return seen{}, err
	}
	result, err := evaluator.Evaluate(context.Background(), object)
	if err != nil {
		return seen{}, err
	}
	return seen{result.Status.String(), result.Message}, nil
}

// A custom health check of Argo CD has the libraries base, package and table, and no other: no string, math, io. Of its os
// only the clock is left, which no check of ours needs; it is not opened here. It has a second.
func health(object *unstructured.Unstructured, script string) (seen, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		call := lua.P{Fn: state.NewFunction(library.open), Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return seen{}, err
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(limit)
	state.SetGlobal("obj", toLua(state, object.Object))
	if err := state.DoString(script); err != nil {
		return seen{}, err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return seen{}, fmt.Errorf("it returns %s and no table", state.Get(-1).Type())
	}
	answer := seen{}
	var wrong error
	table.ForEach(func(key, value lua.LValue) {
		text, isText := value.(lua.LString)
		switch {
		case key == lua.LString("status") && isText && healths[string(text)]:
			answer.Status = string(text)
		case key == lua.LString("message") && isText:
			answer.Message = string(text)
		default:
			wrong = errors.Join(wrong, fmt.Errorf("%v = %v is no part of a health", key, value))
		}
	})
	if answer.Status == "" {
		wrong = errors.Join(wrong, errors.New("it says no status"))
	}
	return answer, wrong
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case string:
		return lua.LString(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case []any:
		table := state.NewTable()
		for _, item := range value {
			table.Append(toLua(state, item))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, item := range value {
			table.RawSetString(key, toLua(state, item))
		}
		return table
	default:
		return lua.LNil
	}
}
