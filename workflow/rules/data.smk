# Corpora: tokenizers, then documents sampled, tokenized and packed.


# Word problems with solutions: text to pre-train on, instructions, and items to test with.
rule problems:
    output:
        f"{LAYOUT.problems()}/manifest.json",
        f"{LAYOUT.problems()}/text.jsonl",
        f"{LAYOUT.problems()}/instruct.jsonl",
    log:
        f"{ROOT}/logs/problems.log",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        folder=lambda w, output: Path(output[0]).parent,
        train=lambda w: settings("math").problems,
        test=lambda w: settings("math").limit or 100,
    shell:
        "tad eval problems --out {params.folder:q} --train {params.train:q}"
        " --test {params.test:q} > {log:q} 2>&1"


rule tokenizer:
    input:
        lambda w: generated_text(SUITE.tokenizers[w.tokenizer].corpora),
    output:
        f"{ROOT}/tokenizers/{{tokenizer}}/tokenizer.json",
        f"{ROOT}/tokenizers/{{tokenizer}}/tokenizer_config.json",
    log:
        f"{ROOT}/logs/tokenizers/{{tokenizer}}.log",
    benchmark:
        f"{ROOT}/benchmarks/tokenizers/{{tokenizer}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=CONFIG,
        overrides=words_of_overrides,
        spec=lambda w: as_param(SUITE.tokenizers[w.tokenizer]),
    shell:
        "tad data tokenizer --config {params.config:q} {params.overrides:q} --tokenizer {wildcards.tokenizer:q}"
        " > {log:q} 2>&1"


rule pack:
    input:
        rules.tokenizer.output,
        lambda w: generated_text([w.corpus]),
    output:
        train=f"{ROOT}/data/{{corpus}}/{{tokenizer}}/train.bin",
        validation=f"{ROOT}/data/{{corpus}}/{{tokenizer}}/validation.bin",
        manifest=f"{ROOT}/data/{{corpus}}/{{tokenizer}}/manifest.json",
    log:
        f"{ROOT}/logs/data/{{corpus}}/{{tokenizer}}.log",
    benchmark:
        f"{ROOT}/benchmarks/data/{{corpus}}/{{tokenizer}}.tsv"
    wildcard_constraints:
        corpus="|".join(SUITE.corpora),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("pack", no_gpu),
        runtime=minutes("pack", no_gpu),
    params:
        config=CONFIG,
        overrides=words_of_overrides,
        spec=lambda w: corpus_param(w.corpus),
    shell:
        "tad data pack --config {params.config:q} {params.overrides:q} --corpus {wildcards.corpus:q}"
        " --tokenizer {wildcards.tokenizer:q} > {log:q} 2>&1"


rule instructions:
    input:
        rules.tokenizer.output,
        lambda w: generated_instructions(w.name),
    output:
        f"{ROOT}/data/{{name}}/{{tokenizer}}/train.parquet",
        f"{ROOT}/data/{{name}}/{{tokenizer}}/validation.parquet",
        f"{ROOT}/data/{{name}}/{{tokenizer}}/manifest.json",
    log:
        f"{ROOT}/logs/data/{{name}}/{{tokenizer}}.log",
    benchmark:
        f"{ROOT}/benchmarks/data/{{name}}/{{tokenizer}}.tsv"
    wildcard_constraints:
        name="|".join(SUITE.instructions) or "none",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=CONFIG,
        overrides=words_of_overrides,
        spec=lambda w: as_param(SUITE.instructions[w.name]),
    shell:
        "tad instruct --config {params.config:q} {params.overrides:q} --data {wildcards.name:q}"
        " --tokenizer {wildcards.tokenizer:q} > {log:q} 2>&1"
