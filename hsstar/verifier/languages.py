r"""Words of other languages in an answer: units, counted things, scales, "and", "or", names of values.

Chinese, Japanese, Korean, Spanish, German, French and Russian. A word becomes its English. What the tables
lack stays as it is and is compared letter by letter.
"""

import re
from collections.abc import Callable
from decimal import Decimal


def _table(entries: str) -> dict[str, str]:
    pairs = (entry.replace("_", " ").partition("=") for entry in entries.split())
    return {word: english for word, _, english in pairs}


_UNITS_BEHIND = _table(r"""
平方厘米=cm^2 平方分米=dm^2 平方千米=km^2 平方公里=km^2 平方米=m^2 立方厘米=cm^3 立方分米=dm^3 立方米=m^3
千米/小时=km/h 千米/时=km/h 公里/小时=km/h 米/秒=m/s 厘米=cm 分米=dm 毫米=mm 千米=km 公里=km 米=m
公斤=kg 千克=kg 毫克=mg 克=g 毫升=mL 升=L 小时=hours 分钟=minutes 秒=seconds 天=days 周=weeks
个月=months 年=years 度=^\circ 弧度=radians 元=yuan 美元=dollars 欧元=euros
平方センチメートル=cm^2 平方メートル=m^2 センチメートル=cm ミリメートル=mm キロメートル=km メートル=m
キログラム=kg グラム=g リットル=L 時間=hours 分間=minutes 分=minutes 秒=seconds 日=days 週間=weeks
ヶ月=months 円=yen ドル=dollars パーセント=percent
제곱센티미터=cm^2 제곱미터=m^2 센티미터=cm 밀리미터=mm 킬로미터=km 미터=m 킬로그램=kg 그램=g 리터=L
시간=hours 분=minutes 초=seconds 일=days 주=weeks 개월=months 년=years 도=^\circ 원=won 달러=dollars
""")
_UNITS_BEHIND_A_SPACE = _table("""
metro=m metros=m centímetros=cm milímetros=mm kilómetros=km gramos=g kilogramos=kg litros=L hora=hour
horas=hours minutos=minutes segundos=seconds días=days semanas=weeks meses=months año=year años=years
grados=degrees dólares=dollars por_ciento=percent
Meter=m Zentimeter=cm Millimeter=mm Kilometer=km Gramm=g Kilogramm=kg Liter=L Stunde=hour Stunden=hours
Minuten=minutes Sekunden=seconds Tage=days Wochen=weeks Monate=months Jahre=years Grad=degrees
Prozent=percent
mètre=m mètres=m centimètres=cm millimètres=mm kilomètres=km grammes=g kilogrammes=kg litres=L heure=hour
heures=hours secondes=seconds jours=days semaines=weeks mois=months ans=years degrés=degrees
pour_cent=percent
м=m метр=m метра=m метров=m см=cm сантиметров=cm мм=mm миллиметров=mm км=km километров=km г=g граммов=g
кг=kg килограммов=kg литров=L ч=hours час=hour часа=hours часов=hours мин=minutes минут=minutes
минуты=minutes секунд=seconds дней=days дня=days лет=years градусов=degrees рублей=rubles рубля=rubles
руб=rubles процентов=percent
""")
_JOINING_WORDS = _table(r"""
或者=or 或=or 以及=and 和=and 与=and 且=and または=or と=and 또는=or 그리고=and
oder=or und=and o=or ou=or y=and et=and или=or и=and
""")
_SENTENCES = _table("""
无解=no_solution 無解=no_solution 解なし=no_solution 해가_없다=no_solution 空集=empty_set
keine_Lösung=no_solution sin_solución=no_solution no_tiene_solución=no_solution
pas_de_solution=no_solution aucune_solution=no_solution нет_решений=no_solution
不存在=does_not_exist 无穷大=infinity 是=yes 否=no はい=yes いいえ=no 예=yes 아니오=no
sí=yes ja=yes nein=no oui=yes non=no да=yes нет=no
""")
_SCALES = {"百": 10**2, "千": 10**3, "万": 10**4, "亿": 10**8, "億": 10**8, "만": 10**4, "억": 10**8}
_COUNTED = "|".join(
    (
        *"个個人名位只隻本张張辆件次条支枝棵朵头匹块种種步页岁歳组組排桌双对杯瓶箱袋根座间台题倍枚冊回つ点개명권번장대",
        "通り",
        "마리",
        "가지",
        "사람",
        "송이",
    )
)
_OTHER = r"\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3"  # letters of Chinese, Japanese, Korean
_BEHIND = "|".join(sorted(_UNITS_BEHIND, key=len, reverse=True))
_BEHIND_A_SPACE = "|".join(sorted(_UNITS_BEHIND_A_SPACE, key=len, reverse=True))
_VALUE_BEFORE = r"(?<=[\d})\]])"

_SCALED = re.compile(rf"(\d+(?:\.\d+)?)\s?((?:{'|'.join(_SCALES)})+)(?![米克瓦卡分])")
_UNIT = re.compile(
    rf"{_VALUE_BEFORE}\s?(?:\\text\s?\{{\s?(?P<set>{_BEHIND})\s?\}}|(?P<bare>{_BEHIND})(?![{_OTHER}]))"
)
_MIXED_UNIT = re.compile(rf"{_VALUE_BEFORE}\s?({_BEHIND})(?=\d)")
_UNIT_BEHIND_A_SPACE = re.compile(
    rf"(?<=[\d}}])\s?(?:\\text\s?\{{\s?(?P<set>{_BEHIND_A_SPACE})\s?\}}|(?<=\s)(?P<bare>{_BEHIND_A_SPACE}))\.?\s*\Z"
)
_COUNT = re.compile(
    rf"{_VALUE_BEFORE}\s?(?:\\text\s?\{{\s?)?(?:{_COUNTED})(?:的?(?![以上下多少不非错至过または])[{_OTHER}])?"
    rf"(?:(?![以上下多少不非错至过])[{_OTHER}]){{0,4}}\s?\}}?\s*\Z"
)
_JOINED = re.compile(
    r"\s?(?P<own>或者|或|以及|和|与|且|または|또는|그리고)\s?"
    r"|(?<=[\d})\]])\s(?P<spaced>oder|und|o|ou|y|et|или|и|と)\s(?=[-\d\\(\[$]|[A-Za-z]\s?=)"
)
_NAME = re.compile(
    rf"\A(?P<name>(?:(?![不非没未])[{_OTHER}]){{1,12}}?)\s?(?:为|是|等于|[:：=]|은|는|は)\s?(?=[-+\d\\($√]|[A-Za-z]\s?[=^])"
)
_FILLER = re.compile(
    r"\A(?:答案|答|一共有?|总共有?|共有?|共计|大?约|合計|全部で|총|약)[:：]?\s?(?=[-\d\\($])"
)


def in_english(text: str) -> str:
    """Return a text with the English of the foreign words that its tables know."""
    whole = " ".join(text.strip(" .!").split())
    if whole in _SENTENCES:
        return _SENTENCES[whole]
    text = _UNIT_BEHIND_A_SPACE.sub(_english_unit(_UNITS_BEHIND_A_SPACE), text)
    if text.isascii():
        return _JOINED.sub(_english_word, text)
    text = _SCALED.sub(_scaled, _FILLER.sub("", text).removesuffix("左右"))
    text = _NAME.sub(r"\\text{\g<name>}=", text)
    text = _MIXED_UNIT.sub(lambda unit: f" {_UNITS_BEHIND[unit[1]]} ", text)
    text = _COUNT.sub("", _UNIT.sub(_english_unit(_UNITS_BEHIND), text))
    return _JOINED.sub(_english_word, text)


def _english_word(word: re.Match[str]) -> str:
    return f" {_JOINING_WORDS[word['own'] or word['spaced']]} "


def _english_unit(table: dict[str, str]) -> Callable[[re.Match[str]], str]:
    def english(unit: re.Match[str]) -> str:
        name = table[unit["set"] or unit["bare"]]
        return name if name.startswith("^") else rf"\text{{ {name}}}"

    return english


def _scaled(match: re.Match[str]) -> str:
    value = Decimal(match[1])
    for scale in match[2]:
        value *= _SCALES[scale]
    return f"{value.normalize():f}" if len(match[1]) < 30 else match[0]
