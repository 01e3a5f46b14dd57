# Records of finished models, each one small JSON file beside the model it measures.


rule heldout_run:
    input:
        lambda w: [f"{spec_of(w.run).data}/manifest.json", *model_files(spec_of(w.run).teacher)],
        model=f"{ROOT}/runs/{{run}}/model.safetensors",
    output:
        heldout=f"{ROOT}/runs/{{run}}/heldout.json",
        calibration=f"{ROOT}/runs/{{run}}/calibration.json",
        gaps=f"{ROOT}/runs/{{run}}/calibration.npz",
    log:
        f"{ROOT}/logs/runs/{{run}}/heldout.log",
    benchmark:
        f"{ROOT}/benchmarks/runs/{{run}}/heldout.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=lambda w: min(gpus(w.run), 1),
        mem_mb=memory("heldout"),
        runtime=minutes("heldout"),
    params:
        folder=lambda w, input: Path(input.model).parent,
        teacher=lambda w: spec_of(w.run).teacher,
        data=lambda w: spec_of(w.run).data,
        context=lambda w: spec_of(w.run).optimisation.context,
        positions=options(positions=SUITE.evaluation.calibration_positions),
    shell:
        "tad eval heldout --model {params.folder:q} --teacher {params.teacher:q}"
        " --data {params.data:q} --context {params.context:q} --out {output.heldout:q}"
        " --calibration {output.calibration:q} {params.positions:q} > {log:q} 2>&1"


rule heldout_teacher:
    input:
        lambda w: [f"{teacher_data(w)}/manifest.json", *model_files(teacher_folder(w))],
    output:
        f"{ROOT}/models/{{model}}/{{checkpoint}}/heldout.json",
    log:
        f"{ROOT}/logs/models/{{model}}/{{checkpoint}}.heldout.log",
    benchmark:
        f"{ROOT}/benchmarks/models/{{model}}/{{checkpoint}}.heldout.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=memory("heldout"),
        runtime=minutes("heldout"),
    params:
        folder=teacher_folder,
        data=teacher_data,
        context=SUITE.stages["scratch"].context,
    shell:
        "tad eval heldout --model {params.folder:q} --data {params.data:q}"
        " --context {params.context:q} --out {output:q} > {log:q} 2>&1"


rule analogues:
    input:
        lambda w: f"{analogue_tokens(w)['data']}/manifest.json",
    output:
        directory(f"{ROOT}/analogues/{{corpus}}"),
    log:
        f"{ROOT}/logs/analogues/{{corpus}}.log",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        data=lambda w: analogue_tokens(w)["data"],
        tokenizer=lambda w: str(LAYOUT.tokenizer(analogue_tokens(w)["tokenizer"])),
        size=lambda w: settings("fewshot").items,
    shell:
        "tad eval analogues --data {params.data:q} --tokenizer {params.tokenizer:q}"
        " --out {output:q} --items {params.size:q} > {log:q} 2>&1"


# A suite that was interrupted keeps its finished tasks beside the outputs and goes on with the
# rest.
rule fewshot:
    input:
        subject_files,
        lambda w: analogues(),
        own_tasks,
    output:
        record=f"{ROOT}/{{subject}}/fewshot.json",
        rows=f"{ROOT}/{{subject}}/fewshot.items.jsonl.gz",
    log:
        f"{ROOT}/logs/{{subject}}/fewshot.log",
    benchmark:
        f"{ROOT}/benchmarks/{{subject}}/fewshot.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=memory("fewshot"),
        runtime=minutes("fewshot"),
    params:
        model=fewshot_model,
        options=fewshot_options,
    shell:
        "tad eval fewshot --model {params.model:q} --out {output.record:q} {params.options:q}"
        " > {log:q} 2>&1"


# The same of the math suite: its answers lie in math_items, and are graded and kept batch by batch.
rule math:
    input:
        subject_files,
        math_items,
    output:
        f"{ROOT}/{{subject}}/math.json",
    log:
        f"{ROOT}/logs/{{subject}}/math.log",
    benchmark:
        f"{ROOT}/benchmarks/{{subject}}/math.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=memory("math"),
        runtime=minutes("math"),
    params:
        model=subject_model,
        options=math_options,
    shell:
        "tad eval math --model {params.model:q} --out {output:q} {params.options:q} > {log:q} 2>&1"


# Not measured: what a model writes, for a person to read.
rule sample:
    input:
        subject_files,
        lambda w: f"{samples_data(w)}/manifest.json",
    output:
        f"{ROOT}/{{subject}}/samples.json",
    log:
        f"{ROOT}/logs/{{subject}}/samples.log",
    benchmark:
        f"{ROOT}/benchmarks/{{subject}}/samples.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=one_gpu,
    params:
        model=subject_model,
        data=samples_data,
        options=samples_options,
    shell:
        "tad eval samples --model {params.model:q} --data {params.data:q} --out {output:q}"
        " {params.options:q} > {log:q} 2>&1"
