#!/usr/bin/env python3
"""Makes types.tsv.zst and openapi.tsv.zst, the two data files that `schema` and `codec` embed.

See README.md beside this file for the sources, their licence and how to run it.

    generate.py --definitions _definitions.json --go DIR --out .

DIR holds check-outs of the Go modules `api`, `apimachinery`, `apiextensions-apiserver`, `kube-aggregator` and
`metrics` of k8s.io. Only facts are read from them: the names, types and struct tags of fields.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

# (module, directory, prefix of its names in OpenAPI, what the table calls the package)
PACKAGES = [
    ("apimachinery", "pkg/apis/meta/v1", "io.k8s.apimachinery.pkg.apis.meta.v1", "meta/v1"),
    ("apimachinery", "pkg/types", "", "pkg/types"),
    ("apiextensions-apiserver", "pkg/apis/apiextensions/v1",
     "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1", "apiextensions/v1"),
    ("kube-aggregator", "pkg/apis/apiregistration/v1",
     "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1", "apiregistration/v1"),
    ("metrics", "pkg/apis/metrics/v1beta1", "io.k8s.metrics.pkg.apis.metrics.v1beta1", "metrics/v1beta1"),
] + [
    ("api", gv, "io.k8s.api." + gv.replace("/", "."), gv)
    for gv in [
        "core/v1", "apps/v1", "batch/v1", "autoscaling/v1", "autoscaling/v2", "policy/v1", "networking/v1",
        "discovery/v1", "rbac/v1", "authorization/v1", "authentication/v1", "storage/v1", "scheduling/v1",
        "coordination/v1", "events/v1", "node/v1", "admissionregistration/v1", "certificates/v1", "resource/v1",
        "flowcontrol/v1", "scheduling/v1alpha3",
    ]
]

# Types that encode themselves, in JSON, in protobuf or in both. The decoder knows each by this name.
SPECIAL = {
    ("meta/v1", "Time"): "Time", ("meta/v1", "MicroTime"): "MicroTime", ("meta/v1", "Duration"): "Duration",
    ("meta/v1", "FieldsV1"): "FieldsV1",
    ("apiextensions/v1", "JSON"): "Json", ("apiextensions/v1", "JSONSchemaPropsOrBool"): "SchemaOrBool",
    ("apiextensions/v1", "JSONSchemaPropsOrArray"): "SchemaOrArray",
    ("apiextensions/v1", "JSONSchemaPropsOrStringArray"): "SchemaOrStrings",
}
EXTERNAL = {
    "resource.Quantity": "Quantity", "intstr.IntOrString": "IntOrString", "runtime.RawExtension": "RawExtension",
    "runtime.Object": "RawExtension", "schema.GroupVersionKind": "Json",
}
SCALARS = {"string", "bool", "int32", "int64", "int", "float64", "byte", "uint8", "rune", "uint32", "uint64", "int8",
           "int16", "float32"}
IMPORTS = {"k8s.io/apimachinery/pkg/types": "pkg/types", "k8s.io/apimachinery/pkg/apis/meta/v1": "meta/v1"}


def import_names(text):
    """Alias -> package as the table calls it."""
    found = {}
    for block in re.findall(r"import \((.*?)\n\)", text, re.S) + re.findall(r'\nimport ([^(\n]+)', text):
        for alias, path in re.findall(r'(?:(\w+)\s+)?"([^"]+)"', block):
            short = IMPORTS.get(path) or (path[len("k8s.io/api/"):] if path.startswith("k8s.io/api/") else None)
            if short:
                found[alias or path.rsplit("/", 1)[-1]] = short
    return found


def read_go(root):
    """(package, name) -> ("struct", fields) or ("named", type text)."""
    types = {}
    for module, directory, _, package in PACKAGES:
        folder = Path(root) / module / directory
        for file in sorted(folder.glob("*.go")):
            if file.name.endswith("_test.go") or "generated" in file.name:
                continue
            text = file.read_text()
            if re.search(r"^//go:build fieldsv1string", text, re.M):
                continue
            imports = import_names(text)
            text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
            text = re.sub(r"^\s*//.*$", "", text, flags=re.M)

            def qualify(go_type):
                def one(match):
                    word = match.group(0)
                    if word in SCALARS or word == "map":
                        return "uint8" if word == "byte" else word
                    if "." in word:
                        alias, name = word.split(".")
                        if word in EXTERNAL:
                            return EXTERNAL[word]
                        return imports.get(alias, "?" + alias) + "." + name
                    return package + "." + word
                return re.sub(r"[A-Za-z_][\w]*(?:\.\w+)?", one, go_type)

            for match in re.finditer(r"^type (\w+) struct \{\n(.*?)^\}", text, re.S | re.M):
                fields = []
                for line in match.group(2).splitlines():
                    parts = re.match(r"\s*(?:(\w+)\s+)?([\w.\[\]*]+)\s*`([^`]*)`", line)
                    if not parts:
                        continue
                    go_name, go_type, tags = parts.groups()
                    tags = dict(re.findall(r'(\w+):"([^"]*)"', tags))
                    if "json" not in tags and "protobuf" not in tags:
                        continue
                    name, *options = tags.get("json", "").split(",")
                    number = 0
                    proto = tags.get("protobuf", "").split(",")
                    if len(proto) > 1:
                        number = int(proto[1])
                    if name == "-":
                        continue
                    fields.append({
                        "go_name": go_name, "type": qualify(go_type), "name": name, "number": number,
                        "omitempty": "omitempty" in options, "omitzero": "omitzero" in options,
                        "inline": (go_name is None and not name) or "inline" in options,
                        "merge_key": tags.get("patchMergeKey", ""), "strategy": tags.get("patchStrategy", ""),
                    })
                types[(package, match.group(1))] = ("struct", fields)
            for name in re.findall(r"^type (\w+) struct ?\{\}", text, re.M):
                types[(package, name)] = ("struct", [])
            for match in re.finditer(r"^type (\w+) (=\s*)?([\w.\[\]*]+)\s*$", text, re.M):
                if match.group(3) in ("interface", "struct"):
                    continue
                types[(package, match.group(1))] = ("named", qualify(match.group(3)))
    return types


def openapi_names():
    return {package: prefix for _, _, prefix, package in PACKAGES if prefix}


def normalise(schema):
    """JSON Schema 2020-12 as kubernetes-validate writes it -> OpenAPI v3 as upstream publishes it."""
    if isinstance(schema, list):
        return [normalise(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {name: normalise(item) for name, item in value.items()}
        elif key == "type" and isinstance(value, list):
            out[key] = next(item for item in value if item != "null")
        elif key == "enum" and len(value) == 1:
            continue  # kind and apiVersion: made by kubernetes-validate, not in upstream's documents
        elif key == "$ref":
            out[key] = value.replace("#/$defs/", "#/components/schemas/")
        else:
            out[key] = normalise(value)
    if "$ref" in out and len(out) > 1:
        out["allOf"] = [{"$ref": out.pop("$ref")}]
    return out


def special_schemas(schemas):
    schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {
        "description": "A fixed-point number, written as a decimal with an optional suffix: m, k, M, G, T, P, E, "
                       "Ki, Mi, Gi, Ti, Pi, Ei, or a decimal exponent.",
        "oneOf": [{"type": "string"}, {"type": "number"}]}
    schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = {
        "description": "An integer, or a string such as a percentage or the name of a port.",
        "format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}


def references(value):
    return set(re.findall(r'#/components/schemas/([\w.\-]+)', json.dumps(value)))


def write_openapi(definitions, out):
    schemas = {name: normalise(schema) for name, schema in definitions.items()}
    special_schemas(schemas)
    prefixes = [prefix + "." for prefix in openapi_names().values()]
    wanted = {name for name in schemas if any(
        name.startswith(p) and "." not in name[len(p):] for p in prefixes)}
    queue = list(wanted)
    while queue:
        for name in references(schemas[queue.pop()]):
            if name not in wanted:
                wanted.add(name)
                queue.append(name)
    # Grouping keeps look-alikes within the compressor's window.
    lines = []
    for name in sorted(wanted):
        schema = schemas[name]
        kinds = schema.get("x-kubernetes-group-version-kind", [])
        if len(kinds) > 3:  # DeleteOptions and WatchEvent list every group there is
            schema["x-kubernetes-group-version-kind"] = kinds = [
                kind for kind in kinds if kind["group"] == "" and kind["version"] == "v1"]
        ids = ";".join("/".join((k["group"], k["version"], k["kind"])) for k in kinds)
        lines.append("\t".join((name, ids, json.dumps(schema, separators=(",", ":"), sort_keys=True))))
    text = "\n".join(lines) + "\n"
    compress(text, out / "openapi.tsv.zst")
    print(f"openapi: {len(lines)} schemas, {len(text)} bytes", file=sys.stderr)
    return schemas


def write_types(types, definitions, out):
    prefixes = openapi_names()

    def definition(package, name):
        return definitions.get(f"{prefixes.get(package, '-')}.{name}")

    # Named types: only those that a field leads to.
    def bases(go_type):
        return [b for b in re.findall(r"[\w/]+\.\w+", go_type)]

    reachable, queue = set(), []

    def want(key):
        if key not in reachable and key in types:
            reachable.add(key)
            queue.append(key)

    for (package, name), (form, _) in types.items():
        schema = definition(package, name)
        if form == "struct" and schema and schema.get("x-kubernetes-group-version-kind"):
            want((package, name))
    for name in ("Status", "DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "ListOptions",
                 "GetOptions", "PartialObjectMetadata", "PartialObjectMetadataList", "Table", "List", "WatchEvent"):
        want(("meta/v1", name))
    unknown = set()
    while queue:
        key = queue.pop()
        if key in SPECIAL and SPECIAL[key] not in ("SchemaOrBool", "SchemaOrArray", "SchemaOrStrings"):
            continue
        form, body = types[key]
        for go_type in ([body] if form == "named" else [f["type"] for f in body]):
            for base in bases(go_type):
                package, name = base.rsplit(".", 1)
                if (package, name) in types:
                    want((package, name))
                else:
                    unknown.add(base)
    if unknown:
        print("types without a source:", sorted(unknown), file=sys.stderr)

    lines, differences = [], []
    for package, name in sorted(reachable):
        form, body = types[(package, name)]
        go = f"{package}.{name}"
        if (package, name) in SPECIAL:
            lines.append(f"S\t{go}\t{SPECIAL[(package, name)]}")
            continue
        if form == "named":
            lines.append(f"N\t{go}\t{body}")
            continue
        schema = definition(package, name) or {}
        properties = schema.get("properties", {})
        lines.append(f"T\t{go}")
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            if package != "meta/v1" or (kind["group"], kind["version"]) == ("", "v1"):
                lines.append("\t".join(("K", kind["group"], kind["version"], kind["kind"])))
        seen = set()

        def flatten(fields):
            """Names as JSON sees them: inlined structs contribute their own."""
            for field in fields:
                if field["inline"]:
                    p, n = field["type"].lstrip("*").rsplit(".", 1)
                    if (p, n) in types and types[(p, n)][0] == "struct":
                        yield from flatten(types[(p, n)][1])
                else:
                    yield field["name"]

        seen = set(flatten(body))
        if properties and seen != set(properties):
            differences.append((go, sorted(seen - set(properties)), sorted(set(properties) - seen)))
        for field in body:
            prop = properties.get(field["name"], {})
            flags = "".join(letter for letter, key in (("o", "omitempty"), ("z", "omitzero"), ("i", "inline")) if field[key])
            if field["name"] in schema.get("required", []):
                flags += "r"
            row = [
                "F", field["name"], str(field["number"]), flags, field["type"],
                field["merge_key"], field["strategy"],
                prop.get("x-kubernetes-list-type", "") or prop.get("x-kubernetes-map-type", ""),
                ",".join(prop.get("x-kubernetes-list-map-keys", [])),
            ]
            while row and not row[-1]:
                row.pop()
            lines.append("\t".join(row))
        for name in sorted(set(properties) - seen) if not go.startswith("apiextensions/") else []:
            # Newer than the Go sources at hand: known to JSON, without a protobuf number.
            prop = properties[name]
            kind = {"boolean": "bool", "string": "string", "integer": prop.get("format", "int32")}
            lines.append("\t".join(("F", name, "0", "o", kind.get(normalise(prop).get("type"), "Json"))))
    for difference in differences:
        print("differs from OpenAPI: %s: only in Go %s, only in OpenAPI %s" % difference, file=sys.stderr)
    text = "\n".join(lines) + "\n"
    compress(text, out / "types.tsv.zst")
    print(f"types: {len(lines)} lines, {len(text)} bytes", file=sys.stderr)
    return text


def compress(text, path):
    subprocess.run(["zstd", "-q", "-f", "--ultra", "-22", "-o", str(path)], input=text.encode(), check=True)
    print(f"{path.name}: {path.stat().st_size} bytes", file=sys.stderr)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--definitions", required=True, type=Path)
    arguments.add_argument("--go", required=True, type=Path)
    arguments.add_argument("--out", required=True, type=Path)
    arguments.add_argument("--plain", type=Path, help="also write the uncompressed table of types there")
    options = arguments.parse_args()
    definitions = json.loads(options.definitions.read_text())["$defs"]
    write_openapi(definitions, options.out)
    text = write_types(read_go(options.go), definitions, options.out)
    if options.plain:
        options.plain.write_text(text)


main()
