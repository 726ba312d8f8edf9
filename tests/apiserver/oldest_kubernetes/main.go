// Judges CustomResourceDefinitions as the API server of the version in go.mod does when they are created: their structure,
// whether it knows the functions of their CEL rules, and what it estimates that those cost. Prints one line a problem.
package main

import (
	"context"
	"fmt"
	"os"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

func main() {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	for _, path := range os.Args[1:] {
		if err := judge(scheme, path); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			os.Exit(2)
		}
	}
}

func judge(scheme *runtime.Scheme, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	definition := &v1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(text, definition); err != nil {
		return err
	}
	scheme.Default(definition)
	internal := &apiextensions.CustomResourceDefinition{}
	if err := scheme.Convert(definition, internal, nil); err != nil {
		return err
	}
	for _, version := range internal.Spec.Versions {
		if version.Storage { // as the registry does before it validates
			internal.Status.StoredVersions = []string{version.Name}
		}
	}
	for _, problem := range validation.ValidateCustomResourceDefinition(context.Background(), internal) {
		fmt.Println(problem)
	}
	return nil
}
