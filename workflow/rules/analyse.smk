# Tables and figures from the records below the root, one rule each. Nothing here needs a model.
# What there is to draw, of which records, is said in workflow/items.py.

for target, drawing in drawn(SUITE):

    rule:
        name:
            drawing.name
        input:
            inputs_of(target),
        output:
            *outputs(drawing),
        log:
            f"{TARGET}/logs/analysis/{drawing.name}.log",
        conda:
            ENVIRONMENT
        threads: 1
        params:
            command=drawing.command,
            config=CONFIG,
            overrides=words_of_overrides,
            root=lambda w: TARGET,
            again=REDRAW,
            design=design_of(target),
        shell:
            "tad {params.command} --config {params.config:q} {params.overrides:q} --root {params.root:q} > {log:q} 2>&1"
