"""The kinds of panels, and the PromQL expressions that they use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import heatmap as heatmaps
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Iterable

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

GROUP = 'namespace=~"$namespace", job=~"$job", release=~"$release"'
SCOPE = f'{GROUP}, instance=~"$instance"'
TOPIC = 'topic=~"$topic"'
TOPICAL = (
    "consumer_lag_records", "consumer_lag_seconds", "partition_progress_timestamp_seconds",
    "records_consumed_total", "records_expired_total", "records_processed_total",
    "topic_partitions",
)  # fmt: skip
"""Metrics whose label `topic` is the input topic, which the dashboard's variable chooses."""

P = TypeVar("P")

GREEN, YELLOW, RED, BLUE, GREY = "green", "yellow", "red", "blue", "#8e8e8e"


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and the legend of its series."""

    expr: str
    legend: str = ""
    now: bool = False
    """Evaluated once, not over time."""


def series(name: str, *matchers: str, **labels: str) -> str:
    """The selector of a metric, for the chosen workers."""
    topic = [TOPIC] if name in TOPICAL else []
    wanted = [SCOPE, *topic, *matchers, *(f'{label}="{value}"' for label, value in labels.items())]
    return f"worker_{name}{{{', '.join(wanted)}}}"


def rate(name: str, **labels: str) -> str:
    """The change per second of a metric."""
    return f"rate({series(name, **labels)}[$__rate_interval])"


def increase(name: str, **labels: str) -> str:
    """The change of a metric in a step of the graph, or in four scrapes where that is longer."""
    return f"increase({series(name, **labels)}[$__rate_interval])"


def quantile(q: float, name: str, *by: str) -> str:
    """A quantile of a histogram."""
    labels = ", ".join(("le", *by))
    return f"histogram_quantile({q:g}, sum by ({labels}) ({rate(name + '_bucket')}))"


def quantiles(name: str) -> tuple[Query, ...]:
    """The 50th, 95th and 99th percentiles of a histogram."""
    return tuple(Query(quantile(q, name), f"p{100 * q:g}") for q in (0.5, 0.95, 0.99))


def share(part: str, whole: str) -> str:
    """The share of a part in a whole; 0 where the whole is 0."""
    return f"{part} / ({whole} > 0) or 0 * {whole}"


def number(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    limits: tuple[float, float] | None = None,
    bad_below: float | None = None,
    quiet: str = "none",
) -> stat.Panel:
    """One number and its recent past; `quiet` is shown where there is none.

    It is yellow from the first of `limits` on and red from the second, or red below `bad_below`.
    """
    steps = [model.Threshold(None, BLUE)]
    if limits is not None:
        steps = [model.Threshold(None, GREEN)]
        steps += [model.Threshold(limits[0], YELLOW)] if limits[0] < limits[1] else []
        steps += [model.Threshold(limits[1], RED)]
    if bad_below is not None:
        steps = [model.Threshold(None, RED), model.Threshold(bad_below, GREEN)]
    panel = (
        stat.Panel()
        .graph_mode(common.BigValueGraphMode.AREA)
        .color_mode(common.BigValueColorMode.VALUE)
        .reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .no_value(quiet)
    )
    return _asked(panel, queries, title=title, description=description, unit=unit, steps=steps)


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    limit: float | None = None,
    stacked: bool = False,
    bars: bool = False,
    most: float | None = None,
    colours: dict[str, str] | None = None,
    quiet: str = "no data",
) -> timeseries.Panel:
    """Lines over time, or bars for single events; `quiet` is shown where there are none.

    `limit` is the alert's threshold, a dashed line; `most` is the top of the axis. `colours` maps
    names of series to colours: the others take theirs from a palette.
    """
    legend = (
        options.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    tooltip = options.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    panel = (
        timeseries.Panel()
        .legend(legend)
        .tooltip(tooltip.sort(common.SortOrder.DESCENDING))
        .line_width(1)
        .fill_opacity(60 if stacked or bars else 8)
        .show_points(common.VisibilityMode.NEVER)
        .draw_style(common.GraphDrawStyle.BARS if bars else common.GraphDrawStyle.LINE)
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .min(0)
        .no_value(quiet)
    )
    if most is not None:
        panel.max(most)
    if stacked:
        panel.stacking(options.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    steps = [model.Threshold(None, GREEN)]
    if limit is not None:
        steps += [model.Threshold(limit, RED)]
        style = options.GraphThresholdsStyleConfig()
        panel.thresholds_style(style.mode(common.GraphThresholdsStyleMode.DASHED))
    for name, colour in (colours or {}).items():
        fixed = {"mode": model.FieldColorModeId.FIXED, "fixedColor": colour}
        panel.override_by_name(name, [model.DynamicConfigValue("color", fixed)])
    return _asked(panel, queries, title=title, description=description, unit=unit, steps=steps)


def heat(title: str, description: str, unit: str, name: str) -> heatmaps.Panel:
    """All buckets of a histogram over time: what quantiles hide."""
    query = Query(f"sum by (le) ({increase(name + '_bucket')})", "{{le}}")
    colour = heatmaps.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges")
    panel = (
        heatmaps.Panel()
        .calculate(False)
        .color(colour.steps(64).exponent(0.5))
        .y_axis(heatmaps.YAxisConfig().unit(unit))
        .filter_values(heatmaps.FilterValueRange().le(1e-9))
        .cell_gap(1)
        .show_legend()
    )
    form = PromQueryFormat.HEATMAP
    return _asked(panel, [query], title=title, description=description, unit=unit, form=form)


def states(
    title: str, description: str, *queries: Query, colours: dict[str, str], quiet: str = "none"
) -> statetimeline.Panel:
    """States over time, yes (1) or no (0); `quiet` is shown where there are no series.

    `colours` maps a pattern of the series' names to the colour of yes.
    """
    panel = (
        statetimeline.Panel()
        .show_value(common.VisibilityMode.NEVER)
        .merge_values(True)
        .row_height(0.8)
        .fill_opacity(80)
        .line_width(0)
        .no_value(quiet)
    )
    for pattern, colour in colours.items():
        words = {
            "0": model.ValueMappingResult(text="no", color="transparent", index=0),
            "1": model.ValueMappingResult(text="yes", color=colour, index=1),
        }
        mapping = model.DynamicConfigValue("mappings", [model.ValueMap(words)])
        panel.override_by_regexp(pattern, [mapping])
    return _asked(panel, queries, title=title, description=description, unit=units.NoUnit)


def labels_of(title: str, description: str, query: Query, *columns: str) -> table.Panel:
    """A table of the labels of the series that exist now."""
    hidden = ("Time", "Value", "__name__", "job", "namespace", "pod", "release", "container",
              "endpoint", "service", "prometheus")  # fmt: skip
    wanted = {
        "excludeByName": {name: True for name in hidden if name not in columns},
        "indexByName": {name: index for index, name in enumerate(columns)},
        "renameByName": {},
    }
    organize = model.DataTransformerConfig(id_val="organize", options=wanted)
    panel = table.Panel().with_transformation(organize).show_header(True)
    return _asked(
        panel,
        [query],
        title=title,
        description=description,
        unit=units.NoUnit,
        form=PromQueryFormat.TABLE,
    )


def _asked(
    panel: P,
    queries: Iterable[Query],
    *,
    title: str,
    description: str,
    unit: str,
    steps: Iterable[model.Threshold] = (),
    form: PromQueryFormat = PromQueryFormat.TIME_SERIES,
) -> P:
    common_to_all: Any = panel  # the builders share methods and no base
    common_to_all.title(title).description(" ".join(description.split())).unit(unit)
    common_to_all.datasource(SOURCE)
    if steps:
        common_to_all.thresholds(
            build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps([*steps])
        )
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        target = (
            prometheus.Dataquery()
            .expr(query.expr)
            .legend_format(query.legend or "__auto")
            .format(form)
            .ref_id(letter)
            .datasource(SOURCE)
        )
        common_to_all.with_target(target.instant() if query.now else target.range())
    return panel
