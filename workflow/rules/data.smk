# Corpora: tokenizers, then documents sampled, tokenized and packed.


rule tokenizer:
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
        spec=lambda w: as_param(SUITE.tokenizers[w.tokenizer]),
    shell:
        "python -m tad.data tokenizer --config {params.config} --tokenizer {wildcards.tokenizer}"
        " > {log} 2>&1"


rule pack:
    input:
        rules.tokenizer.output,
    output:
        train=f"{ROOT}/data/{{corpus}}/{{tokenizer}}/train.bin",
        validation=f"{ROOT}/data/{{corpus}}/{{tokenizer}}/validation.bin",
        manifest=f"{ROOT}/data/{{corpus}}/{{tokenizer}}/manifest.json",
    log:
        f"{ROOT}/logs/data/{{corpus}}/{{tokenizer}}.log",
    benchmark:
        f"{ROOT}/benchmarks/data/{{corpus}}/{{tokenizer}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=CONFIG,
        spec=lambda w: as_param(SUITE.corpora[w.corpus]),
    shell:
        "python -m tad.data pack --config {params.config} --corpus {wildcards.corpus}"
        " --tokenizer {wildcards.tokenizer} > {log} 2>&1"
