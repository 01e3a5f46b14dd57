# Records of finished models, each one small JSON file beside the model it measures.


rule heldout_run:
    input:
        lambda w: [f"{spec_of(w.run).data}/manifest.json", *model_files(spec_of(w.run).teacher)],
        model=f"{ROOT}/runs/{{run}}/model.safetensors",
    output:
        f"{ROOT}/runs/{{run}}/heldout.json",
    log:
        f"{ROOT}/logs/runs/{{run}}/heldout.log",
    benchmark:
        f"{ROOT}/benchmarks/runs/{{run}}/heldout.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=lambda w: min(gpus(w.run), 1),
    params:
        folder=lambda w, input: Path(input.model).parent,
        teacher=lambda w: spec_of(w.run).teacher,
        data=lambda w: spec_of(w.run).data,
        context=lambda w: spec_of(w.run).optimisation.context,
    shell:
        "python -m eval.heldout --model {params.folder} --teacher {params.teacher}"
        " --data {params.data} --context {params.context} --out {output} > {log} 2>&1"


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
        gpu=int(SUITE.pretraining is None),
    params:
        folder=teacher_folder,
        data=teacher_data,
        context=SUITE.stages["scratch"].context,
    shell:
        "python -m eval.heldout --model {params.folder} --data {params.data}"
        " --context {params.context} --out {output} > {log} 2>&1"
