// Package judges says what GitOps tools conclude from an object: Flux, Helm and kpt by kstatus, Argo CD by a Lua health check.
package judges

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	luajson "layeh.com/gopher-json"
)

// Kstatus prints the kstatus of one object: `-` reads it as JSON, NAMESPACE GROUP VERSION RESOURCE NAME asks the cluster of KUBECONFIG.
func Kstatus(args []string, in io.Reader, out io.Writer) error {
	object, err := subject(args, in)
	if err != nil {
		return err
	}
	result, err := status.Compute(object)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(map[string]any{"status": result.Status, "message": result.Message})
}

func subject(args []string, in io.Reader) (*unstructured.Unstructured, error) {
	if len(args) == 1 && args[0] == "-" {
		text, err := io.ReadAll(in)
		if err != nil {
			return nil, err
		}
		object := &unstructured.Unstructured{}
		return object, object.UnmarshalJSON(text)
	}
	if len(args) != 5 {
		return nil, errors.New("usage: kstatus -|NAMESPACE GROUP VERSION RESOURCE NAME")
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	resource := schema.GroupVersionResource{Group: args[1], Version: args[2], Resource: args[3]}
	return client.Resource(resource).Namespace(args[0]).Get(context.Background(), args[4], metav1.GetOptions{})
}

// ArgoHealth prints what the health check in the Lua file args[0] says of the object read as JSON, with the interpreter and the
// libraries that Argo CD gives to a check.
func ArgoHealth(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: argohealth HEALTH.LUA < object.json")
	}
	var object any
	if err := json.NewDecoder(in).Decode(&object); err != nil {
		return err
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	libraries := map[string]lua.LGFunction{lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable, lua.StringLibName: lua.OpenString}
	for name, open := range libraries {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return err
		}
	}
	state.SetGlobal("obj", luajson.DecodeValue(state, object))
	if err := state.DoFile(args[0]); err != nil {
		return err
	}
	health, err := luajson.Encode(state.Get(-1))
	if err != nil {
		return err
	}
	_, err = out.Write(append(health, '\n'))
	return err
}
